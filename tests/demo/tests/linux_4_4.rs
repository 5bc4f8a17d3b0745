//! The main job on Linux 4.4, the kernel of Ubuntu 16.04: everything that the product does from registration to commit, with
//! each system call that is newer answered as that kernel answers it.
//!
//! What such a filter cannot show is in `docs/decisions/0041-linux-4-4-by-a-filter.md`.

use anyhow::{Context, Result, ensure};
use control_api::ItemState;
use rig::tools::{compare, copy_of_held, run};
use rig::{ConfigurationServer, NbdClient, OldKernel, Process, Rig, Site, Target, TargetOptions, wait_for};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(300);
const ITEM: &str = "web01";
const DISK: &str = "disk0";
const SIZE: u64 = 32 << 20;
const PIECE: usize = 64 << 10;

/// Numbers of system calls on the command line; prints the error that each is answered with.
const CALLS: &str = "
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for words in sys.argv[1:]:
    number, *arguments = map(int, words.split(','))
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    print(ctypes.get_errno())
";

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn the_filter_answers_as_linux_4_4_does() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kernel = OldKernel::make(folder.path(), folder.path())?;
    let answers = |mut command: Command| -> Result<Vec<i32>> {
        // mlock2; copy_file_range, preadv2, statx, pidfd_open, io_uring_setup, clone3, openat2, faccessat2, one that nobody
        // has; madvise with MADV_DONTNEED and MADV_FREE; prctl with PR_GET_NAME and PR_GET_SPECULATION_CTRL.
        let calls =
            ["325,0,0,99", "326,-1,0,-1,0,1", "327", "332", "434", "425", "435", "437", "439", "9999"];
        command.args(["-c", CALLS]).args(calls).args(["28,0,0,4", "28,0,0,8", "157,3,0", "157,52,0,0,0,0"]);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.lines().map(str::parse).collect::<Result<_, _>>()?)
    };
    let python = "/usr/bin/python3";
    let (here, there) = (answers(Command::new(python))?, answers(kernel.command(python))?);
    ensure!(there[1..10] == [38; 9], "{there:?}");
    ensure!(there[0] == here[0] && there[0] != 38, "{here:?} {there:?}");
    ensure!(there[10] == 0 && there[11] == 22 && there[12] == here[12] && there[13] == 22, "{there:?}");
    ensure!(here[1] != 38 && here[11] == 0, "this kernel is no newer, so it shows nothing: {here:?}");
    Ok(())
}

#[test]
fn the_demo_runs_on_linux_4_4() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kernel = OldKernel::make(&folder.path().join("programs"), &rig::build()?)?;
    let image = folder.path().join("small.img");
    std::fs::File::create(&image)?.set_len(SIZE)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.arg("--source").arg(&image).arg("--dir").arg(folder.path().join("demo"));
    let output = command.arg("--programs").arg(kernel.folder()).output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

/// Whether a process runs behind a filter of system calls.
fn is_filtered(process: &Process) -> Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).context("no line Seccomp")?;
    Ok(mode.trim() == "2")
}

fn drained(site: &mut Site) -> Result<()> {
    let newest = site.source.newest_sequence()?;
    wait_for("the master target to have everything", LONGEST, || {
        site.source.process().check_running()?;
        Ok((site.source.durable_sequence()? >= newest).then_some(()))
    })
}

/// The master target of a site, started once more.
fn restarted_target(site: &Site) -> Result<Target> {
    let port = site.address.rsplit(':').next().context("an address has a port")?.parse()?;
    let replicas = format!("[replicas]\nfolder = {:?}\n", site.datastore);
    Target::start_with(&site.rig, &TargetOptions { port, disks: Vec::new() }, &replicas)
}

/// What the demo does not show: a crash, a resync, the way back given up, and commands that look at the
/// machine.
#[test]
fn crash_resync_failover_and_commit_on_linux_4_4() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kernel = OldKernel::make(&folder.path().join("programs"), &rig::build()?)?;
    let mut rig = Rig::new(&folder.path().join("site"), kernel.folder())?;
    let raw = rig.folder.join("source.img");
    std::fs::File::create(&raw)?.set_len(SIZE)?;
    let server = ConfigurationServer::start_at(&rig, rig::free_port()?, "heartbeat_seconds = 1\n")?;
    Site::register(&mut rig, &server)?;
    let mut site = Site::start(rig, server, vec![(DISK.into(), raw.clone())])?;
    for process in [site.source.process(), site.target.process(), site.server.process()] {
        ensure!(is_filtered(process)?, "process {} runs without the filter", process.id());
    }

    let datastore = site.datastore.clone();
    site.protect(&datastore, "monolithicSparse", &[(DISK, SIZE)])?;
    site.target.wait_for_state(ItemState::Protected, LONGEST)?;
    let mut client = NbdClient::connect(site.source.nbd(), DISK)?;
    client.write(1 << 20, &[0x41; PIECE])?;
    client.flush()?;
    drained(&mut site)?;
    site.source.bookmark("before")?;
    drained(&mut site)?;
    let wanted = copy_of_held(&raw, &folder.path().join("wanted"))?;
    client.write(2 << 20, &[0x42; PIECE])?;
    client.flush()?;
    drop(client);

    site.target.process().kill()?;
    site.target = restarted_target(&site)?;
    site.target.wait_for_state(ItemState::Protected, LONGEST)?;
    site.target.mtctl(&["resync", ITEM])?;
    site.target.wait_for_state(ItemState::Protected, LONGEST)?;
    drained(&mut site)?;
    for words in [&["points", ITEM, "--json"][..], &["disks", "--json"], &["retention", "status"], &["items"]]
    {
        site.target.mtctl(words)?;
    }

    site.target.mtctl(&["failover", ITEM, "--point", "before", "--yes"])?;
    let replica = datastore.join(format!("{ITEM}-{DISK}.vmdk"));
    let held = copy_of_held(&replica, &folder.path().join("held"))?;
    compare(&text(&held), "vmdk", &text(&wanted), "raw")?;
    site.target.mtctl(&["commit", ITEM, "--yes"])?;
    site.stop()?;
    run("qemu-img", &["check", "-q", "-f", "vmdk", &text(&replica)])?;
    compare(&text(&replica), "vmdk", &text(&wanted), "raw")
}
