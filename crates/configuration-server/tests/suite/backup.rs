//! Backups, and servers that come back from them.

use crate::beating::Beating;
use crate::killed;
use crate::support::{ConfigurationServer, Portal, command, folder, host, hosts, register};
use configuration_server::Environment;
use control_api::ErrorCode;
use control_api::registration::{Host, HostKind};
use registration::{Error, renew};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use testkit::Rng;

/// Files of a state folder that no backup needs: those of SQLite that go with the store, the lock, the password that is
/// removed at the first log-in, and the configuration that these tests put there.
const LEFT_OUT: [&str; 5] =
    ["store.sqlite-wal", "store.sqlite-shm", "lock", "administrator.password", "configserver.toml"];

fn run(state: &Path, words: &[&str]) -> Output {
    command(state, words).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{said}");
}

fn backup(state: &Path, file: &Path) {
    done(&run(state, &["backup", file.to_str().unwrap()]));
}

fn restore(state: &Path, file: &Path) -> Output {
    run(state, &["restore", file.to_str().unwrap(), "--yes"])
}

/// What is in each file of a folder, those of its folders as well.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(content(&entry.path())),
            false => drop(all.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    all
}

fn code(error: Error) -> ErrorCode {
    match error {
        Error::Refused(refused) => refused.code,
        other => panic!("{other}"),
    }
}

#[test]
fn a_restored_server_is_the_one_that_hosts_have_registered_with() {
    let (state, elsewhere, one, two, three) = (folder(), folder(), folder(), folder(), folder());
    let file = elsewhere.path().join("backup");
    let cs = ConfigurationServer::start(state.path());
    let port = cs.server.port;
    let first = cs.register(&host(1, 1), one.path()).unwrap().registration;
    let password = fs::read_to_string(state.path().join("administrator.password")).unwrap();
    let session = Portal::new(&cs.server).log_in("admin", password.trim()).1;
    let passphrase = cs.passphrase();
    let agent = Host { kind: HostKind::SourceAgent, ..host(3, 3) };
    let third = cs.register(&agent, three.path()).unwrap().registration;
    let heart = Beating::start(one.path(), host(1, 1));
    heart.wait();
    backup(state.path(), &file);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1, "something was left behind");
    cs.register(&host(2, 2), two.path()).unwrap();
    // Twice, so that the backup knows neither the certificate that it has nor the one before.
    renew(three.path(), agent.clone()).unwrap();
    renew(three.path(), agent.clone()).unwrap();
    drop(cs);
    fs::remove_dir_all(state.path()).unwrap();
    fs::create_dir(state.path()).unwrap();
    done(&restore(state.path(), &file));
    let cs = ConfigurationServer::with(state.path(), port, Environment::host());
    // It went on all the time.
    heart.wait();
    drop(heart);
    // It registers nothing: the host takes it for the same server, and is taken for the same host.
    let renewed = renew(one.path(), host(1, 1)).unwrap();
    assert_eq!((renewed.host_id, renewed.authority), (first.host_id, first.authority));
    assert_eq!(renew(three.path(), agent.clone()).unwrap().host_id, third.host_id);
    assert!(cs.outcomes().contains(&"known again".to_owned()));
    // Of this one the backup knows nothing.
    let unknown = renew(two.path(), host(2, 2)).unwrap_err();
    assert!(unknown.to_string().contains("restored from a backup"), "{unknown}");
    assert!(unknown.to_string().contains("register this host again"), "{unknown}");
    assert_eq!(code(unknown), ErrorCode::NotRegistered);
    assert_eq!(cs.passphrase(), passphrase);
    cs.register(&host(2, 2), two.path()).unwrap();
    renew(two.path(), host(2, 2)).unwrap();
    // Nobody is logged in, and the passwords are those of before.
    let portal = Portal::new(&cs.server);
    assert_eq!(portal.who(session["token"].as_str().unwrap()).0, 401);
    assert_eq!(portal.log_in("admin", password.trim()).0, 200);
    assert!(cs.outcomes().contains(&"restored".to_owned()));
}

#[test]
fn what_is_there_is_neither_overwritten_nor_lost() {
    let (state, elsewhere) = (folder(), folder());
    let file = elsewhere.path().join("backup");
    let cs = ConfigurationServer::start(state.path());
    cs.register(&host(1, 1), folder().path()).unwrap();
    backup(state.path(), &file);
    let first = fs::read(&file).unwrap();
    refused(&run(state.path(), &["backup", file.to_str().unwrap()]), "exists; name another file");
    assert_eq!(fs::read(&file).unwrap(), first);
    cs.register(&host(2, 2), folder().path()).unwrap();
    done(&run(state.path(), &["backup", file.to_str().unwrap(), "--yes"]));
    assert_ne!(fs::read(&file).unwrap(), first);
    fs::write(&file, first).unwrap();
    refused(&restore(state.path(), &file), "stop it first (systemctl stop master-target-configserver)");
    drop(cs);
    // Nobody is there who could be asked.
    refused(&run(state.path(), &["restore", file.to_str().unwrap()]), "give --yes");
    assert_eq!(hosts(state.path()).len(), 2);
    done(&restore(state.path(), &file));
    assert_eq!(hosts(state.path()).len(), 1);
    let kept = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.to_string_lossy().contains("before-restore-")).unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o700);
    assert_eq!(hosts(&kept).len(), 2);
}

#[test]
fn everything_in_the_state_folder_is_in_a_backup() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    cs.register(&host(1, 1), folder().path()).unwrap();
    let names =
        fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !LEFT_OUT.contains(&&**name)).collect();
    names.sort();
    assert_eq!(names, ["ca.key", "ca.pem", "connection.passphrase", "store.sqlite"]);
}

#[test]
fn a_damaged_backup_changes_nothing() {
    let (state, elsewhere) = (folder(), folder());
    let file = elsewhere.path().join("backup");
    {
        let cs = ConfigurationServer::start(state.path());
        cs.register(&host(1, 1), folder().path()).unwrap();
        backup(state.path(), &file);
        cs.register(&host(2, 2), folder().path()).unwrap();
    }
    let good = fs::read(&file).unwrap();
    hosts(state.path());
    let before: BTreeMap<_, _> =
        content(state.path()).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0xbac);
    eprintln!("SEED={seed}");
    let mut random = Rng::new(seed);
    // A flip in each field of the header, and in each sixteenth of the rest; then pieces that are missing.
    let size = good.len() - 64;
    let regions = [(0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 32)].into_iter();
    let regions = regions.chain((0..16).map(|part| (64 + part * size / 16, size / 16)));
    let mut bad: Vec<Vec<u8>> = regions
        .map(|(start, length)| {
            let mut bad = good.clone();
            bad[start + random.below(length as u64) as usize] ^= 1 << random.below(8);
            bad
        })
        .collect();
    bad.extend([0, 63, 64, good.len() / 2, good.len() - 1].map(|length| good[..length].to_vec()));
    for bad in bad {
        fs::write(&file, bad).unwrap();
        refused(&restore(state.path(), &file), "the state in");
        let after = content(state.path()).into_iter().filter(|(path, _)| !path.ends_with("lock"));
        assert!(after.eq(before.clone()), "something changed");
    }
    fs::write(&file, good).unwrap();
    done(&restore(state.path(), &file));
    assert_eq!(hosts(state.path()).len(), 1);
}

/// Which state it is: the names of its hosts, its authority and its passphrase belong together.
fn identity(state: &Path) -> (Vec<String>, Vec<u8>, Vec<u8>) {
    let names = hosts(state).iter().map(|host| host["name"].as_str().unwrap().to_owned()).collect();
    let read = |name: &str| fs::read(state.join(name)).unwrap();
    (names, read("ca.pem"), read("connection.passphrase"))
}

/// What changes something on the disk. Each is counted by itself.
const CALLS: [&str; 8] = ["rename", "mkdir", "rmdir", "unlink", "unlinkat", "fsync", "fdatasync", "fchmod"];

/// Runs a command that is killed when it makes such a call for the `number`th time; true when it was.
fn killed_at(call: &str, number: u32, command: &Command) -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    let status = strace.arg(command.get_program()).args(command.get_args()).output();
    let status = status.expect("cargo xtask setup installs strace").status;
    status.signal() == Some(9) || status.code() == Some(137)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.unwrap().success());
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let (old, new, elsewhere) = (folder(), folder(), folder());
    let file = elsewhere.path().join("backup");
    for (state, number) in [(&new, 1), (&old, 2)] {
        let server = killed::free();
        let running = killed::start(state.path(), &server);
        let (passphrase, _) = registration::passphrase(&state.path().join("connection.passphrase")).unwrap();
        register(&server, &passphrase, &host(number, number), folder().path()).unwrap();
        // Killed as well, so there is something that SQLite had not yet brought into the store.
        drop(running);
        assert!(fs::metadata(state.path().join("store.sqlite-wal")).unwrap().len() > 0);
    }
    let crashed = folder();
    copy(old.path(), crashed.path());
    backup(new.path(), &file);
    let (was, becomes) = (identity(old.path()), identity(new.path()));
    assert!(was.0 != becomes.0 && was.1 != becomes.1 && was.2 != becomes.2);
    let (mut left_old, mut left_new, mut completed) = (0, 0, 0);
    for call in CALLS {
        for number in 1.. {
            let state = folder();
            copy(crashed.path(), state.path());
            let words = ["restore", file.to_str().unwrap(), "--yes"];
            let killed = killed_at(call, number, &command(state.path(), &words));
            if state.path().join("restore.ready").exists() {
                refused(&run(state.path(), &["hosts"]), "a restore was cut short");
                drop(ConfigurationServer::start(state.path()));
                completed += 1;
            }
            match identity(state.path()) {
                identity if identity == was => left_old += 1,
                identity if identity == becomes => left_new += 1,
                other => panic!("{call} {number}: neither the old state nor the new one: {:?}", other.0),
            }
            // It can be done again.
            done(&restore(state.path(), &file));
            assert!(identity(state.path()) == becomes && !state.path().join("restore.ready").exists());
            if !killed {
                break;
            }
        }
    }
    println!("killed: {left_old} times old, {left_new} times new, {completed} of them completed by a start");
    assert!(left_old >= 5 && left_new >= 15 && completed >= 8, "{left_old} {left_new} {completed}");
}

#[test]
fn a_backup_that_is_killed_leaves_none_or_a_whole_one() {
    let (state, elsewhere) = (folder(), folder());
    drop(ConfigurationServer::start(state.path()));
    let file = elsewhere.path().join("backup");
    let mut killed_times = 0;
    for call in ["linkat", "unlink", "fsync", "fdatasync", "pwrite64"] {
        for number in 1.. {
            let _ = fs::remove_file(&file);
            let words = ["backup", file.to_str().unwrap()];
            let killed = killed_at(call, number, &command(state.path(), &words));
            killed_times += u32::from(killed);
            if file.exists() {
                done(&restore(folder().path(), &file));
            }
            if !killed {
                assert!(file.exists());
                break;
            }
        }
    }
    assert!(killed_times >= 8, "killed {killed_times} times");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1, "something was left behind");
}
