//! `mtctl support-bundle` of a registered master target: what is in it, and that no secret is.

use crate::registration::{Cs, Machine, host, register};
use crate::source::SOON;
use control_api::registration::HostKind;
use daemon::config::Config;
use rig::wait_for;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Makes a bundle; what was printed, and its files.
fn bundle(machine: &Machine, output: &Path) -> (String, BTreeMap<String, String>) {
    let socket = machine.folder.path().join("mtd.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtctl"));
    command.arg("--socket").arg(socket).args(["support-bundle", "--lines", "50", "--output"]).arg(output);
    let made = command.arg("--config").arg(machine.config()).output().unwrap();
    let said = String::from_utf8([made.stdout, made.stderr].concat()).unwrap();
    assert!(made.status.success(), "{said}");
    assert_eq!(output.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let folder = tempfile::tempdir().unwrap();
    let strip = ["--strip-components=1", "-xzf"];
    let tar = Command::new("tar").arg("-C").arg(folder.path()).args(strip).arg(output).status().unwrap();
    assert!(tar.success());
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.path().to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder.path()).unwrap().display().to_string();
            files.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
        }
    }
    (said, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_tells_how_the_machine_stands_and_no_secret() {
    let (cs, machine) = (Cs::start().await, Machine::new());
    register(&cs, host(HostKind::MasterTarget, "mt01.example", 2), &machine.state());
    let passphrase = fs::read_to_string(cs.passphrase()).unwrap().trim().to_owned();
    let key = fs::read_to_string(machine.state().join("identity/key.pem")).unwrap();
    // What people leave where it does not belong.
    let state = machine.state();
    fs::write(state.join("passphrase.txt"), &passphrase).unwrap();
    fs::write(state.join("notes.txt"), format!("the key:\n{key}")).unwrap();
    fs::write(state.join("blob"), &key).unwrap();
    let noted = format!("# {passphrase}\n# smtp_password = \"hunter2\"\n# http://eve:pw@proxy:3128/\n");
    fs::write(machine.config(), machine.configuration() + &noted).unwrap();

    let config = Config::load(&machine.config()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let daemon = tokio::spawn(daemon::run_until(config, async move { drop(stopped.await) }));
    let socket = machine.folder.path().join("mtd.sock");
    wait_for("the daemon", SOON, || Ok(socket.exists().then_some(()))).unwrap();
    let with = machine.folder.path().join("with.tar.gz");
    let (said, files) = tokio::task::block_in_place(|| bundle(&machine, &with));

    for (name, content) in &files {
        let body = key.lines().filter(|line| !line.starts_with("-----"));
        for secret in body.chain([passphrase.as_str(), "hunter2", "eve:pw"]) {
            assert!(!content.contains(secret), "{name} holds {secret}");
        }
    }
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&files[name]).unwrap_or_else(|error| panic!("{name}: {error}: {}", files[name]))
    };
    assert!(json("daemon/status.json")["version"].is_string());
    assert!(json("machine/check.json").is_object() && json("machine/disks.json").is_object());
    assert!(files["configuration/mtd.toml"].contains("[retention]"));
    assert!(files["machine/proc_mounts"].contains(" / "));
    assert!(files["state/listing.txt"].contains("key.pem"));
    assert!(files.keys().any(|name| name.ends_with("/certificate.pem")), "{:?}", files.keys());
    let manifest = &files["manifest.txt"];
    for line in ["state/passphrase.txt: it holds a secret", "state/blob: only files that are known"] {
        assert!(manifest.contains(line), "{line}: {manifest}");
    }
    assert!(manifest.contains("/key.pem: it holds a secret"), "{manifest}");
    assert!(said.contains("Never in a bundle: private keys") && said.contains("with.tar.gz"), "{said}");

    stop.send(()).unwrap();
    daemon.await.unwrap().unwrap();
    let without = machine.folder.path().join("without.tar.gz");
    let (_, files) = tokio::task::block_in_place(|| bundle(&machine, &without));
    assert!(!files.contains_key("daemon/status.json"));
    let manifest = &files["manifest.txt"];
    let why = manifest.lines().find(|line| line.starts_with("  daemon/status.json: ")).unwrap();
    assert!(why.contains("mtd.sock"), "{why}");
}
