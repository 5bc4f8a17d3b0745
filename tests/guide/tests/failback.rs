//! docs/guide from installing to committing: what stands in its blocks is typed, as it stands there, on four machines made
//! of namespaces, with the real programs. What is on the disks is compared on the way and at the end.

use anyhow::{Context, Result, ensure};
use chaos::{LONGEST, Random, is_root};
use guide::{Block, Machine, Unit, pages};
use rig::tools::{compare, copy, copy_of_held, run};
use rig::wait_for;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Bytes of the disk.
const SIZE: usize = 32 << 20;
const URI: &str = "nbd+unix:///disk0?socket=/run/mt-source/nbd.sock";

/// What is another here than in the guide. The time that the guide recovers to is added as it is known.
const TABLE: [(&str, &str); 3] =
    [("36000c29f00b2", "/srv/web01.vmdk"), ("size=40GiB", "size=32MiB"), ("/dev/sdb", "/srv/disk0.img")];

/// Seconds between two heartbeats.
const HEARTBEAT: u64 = 2;

/// A time in the guide.
const MOMENT: &str = "2026-11-26T01:30:00Z";

/// What cannot be typed here: the command, what does it instead, and words in there that show it.
const ELSEWHERE: [(&str, &str, &str); 2] = [
    // An empty disk with a SCSI id, mapped by multipathd, and systemd that mounts it.
    (
        "mtctl retention prepare 36000c29f00a1 --dry-run",
        "tests/vm/scenarios/retention-prepare.sh",
        "mtctl retention prepare $id --dry-run",
    ),
    (
        "mtctl retention prepare 36000c29f00a1",
        "tests/vm/retention.sh",
        "mtctl retention prepare \"$(wwid \"$1\")\" --yes",
    ),
];

/// What the packages do, as far as it matters here; `tests/vm/scenarios/deb-install.sh` installs them for real.
const PACKAGES: [(&str, &str); 4] = [
    (
        "apt install ./master-target-configserver_*_amd64.deb",
        "install -m 755 mt-configserver /usr/bin/
         install -D -m 644 packaging/configserver.toml /etc/master-target/configserver.toml
         install -m 644 systemd/master-target-configserver.service /etc/systemd/system/
         useradd --system --user-group --no-create-home --shell /usr/sbin/nologin mt-configserver
         systemctl enable --now master-target-configserver",
    ),
    (
        "apt install ./master-target_*_amd64.deb",
        "install -m 755 mtd mtctl /usr/bin/
         install -D -m 644 packaging/mtd.toml /etc/master-target/mtd.toml
         install -m 644 systemd/master-target.service /etc/systemd/system/
         systemctl enable --now master-target",
    ),
    (
        "apt install ./master-target-source_*_amd64.deb",
        "install -m 755 mt-source /usr/bin/
         install -D -m 644 packaging/mt-source.toml /etc/master-target/mt-source.toml
         install -m 644 systemd/mt-source.service /etc/systemd/system/",
    ),
    (
        "apt install ./master-target-process-server_*_amd64.deb",
        "install -m 755 mt-process-server /usr/bin/
         install -D -m 644 packaging/process-server.toml /etc/master-target/process-server.toml
         install -m 644 systemd/mt-process-server.service /etc/systemd/system/
         useradd --system --user-group --no-create-home --shell /usr/sbin/nologin mt-process-server
         systemctl enable --now mt-process-server",
    ),
];

/// No machine here passes every check of a master target: it would have to be VMware's.
const FINDS_FAILURES: (&str, i32) = ("mtctl check", 3);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All machines are in one network, where the master target has the port of both.
const PROCESS_SERVER: &str = "listen = \"10.0.0.8:9444\"\n";

/// What is in the packages, in the folder where commands are typed, and the names of the machines.
fn lay_out(folder: &Path, machines: &[(&str, &str)]) -> Result<()> {
    let (programs, here) = (rig::build()?, folder.join("here"));
    std::fs::create_dir_all(&here)?;
    for program in ["mtd", "mtctl", "mt-source", "mt-configserver", "mt-process-server"] {
        std::fs::copy(programs.join(program), here.join(program))?;
    }
    for part in ["packaging", "systemd"] {
        let (from, to) = (root().join(part), here.to_string_lossy().into_owned());
        run("cp", &["-r", &from.to_string_lossy(), &to])?;
    }
    // There is no volume to mount.
    let mtd = here.join("packaging/mtd.toml");
    let text = std::fs::read_to_string(&mtd)? + "[retention]\ntrial_folder = true\n";
    std::fs::write(mtd, text)?;
    // What changes is told at once anyway, and the rest soon enough for a test.
    let server = here.join("packaging/configserver.toml");
    let text = std::fs::read_to_string(&server)?;
    std::fs::write(server, format!("heartbeat_seconds = {HEARTBEAT}\n{text}"))?;
    let relay = here.join("packaging/process-server.toml");
    let text = std::fs::read_to_string(&relay)?;
    std::fs::write(relay, PROCESS_SERVER.to_owned() + &text)?;
    let names: String = machines.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    Ok(std::fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{names}"))?)
}

/// Somebody who reads the guide and does what it says.
struct Reader {
    blocks: Vec<(Block, bool)>,
    table: Vec<(String, String)>,
    units: BTreeMap<String, Unit>,
    machines: Vec<Machine>,
}

impl Reader {
    fn new(folder: &Path) -> Result<Reader> {
        let names = [
            ("mt01.example", "10.0.0.5"),
            ("cs.example", "10.0.0.9"),
            ("web01.example", "10.0.0.7"),
            ("ps.example", "10.0.0.8"),
        ];
        lay_out(folder, &names)?;
        let mut machines: Vec<Machine> = Vec::new();
        for (name, address) in names {
            machines.push(Machine::make(folder, name, address, &machines.iter().collect::<Vec<_>>())?);
        }
        let mut blocks = Vec::new();
        for (page, text) in pages(&root().join("docs/guide"))? {
            blocks.extend(Block::all(&page, &text).into_iter().map(|block| (block, false)));
        }
        let table = TABLE.map(|(one, other)| (one.to_owned(), other.to_owned())).into();
        Ok(Reader { blocks, table, units: BTreeMap::new(), machines })
    }

    fn target(&self) -> &Machine {
        &self.machines[0]
    }

    fn source(&self) -> &Machine {
        &self.machines[2]
    }

    /// The machine that a text is about, by the programs and files that it names.
    fn machine(&self, text: &str) -> Option<&Machine> {
        let marks = [(3, "process-server"), (1, "configserver"), (2, "mt-source"), (0, "mtctl"), (0, "mtd")];
        let (number, _) = marks.iter().find(|(_, mark)| text.contains(mark))?;
        self.machines.get(*number)
    }

    /// What stands in the guide, as it is typed here.
    fn here(&self, text: &str) -> String {
        self.table.iter().fold(text.to_owned(), |text, (one, other)| text.replace(one, other))
    }

    /// Types what stands in a block, of which these are the first words.
    fn follow(&mut self, page: &str, words: &str) -> Result<()> {
        self.follow_looking(page, words, |_, _| Ok(()))
    }

    /// The same; `look` is called before each command.
    fn follow_looking(
        &mut self,
        page: &str,
        words: &str,
        look: impl Fn(&Reader, &str) -> Result<()>,
    ) -> Result<()> {
        let block = self.block(page, "sh", words)?;
        for command in block.commands() {
            look(self, &command)?;
            if let Some((_, instead)) = PACKAGES.iter().find(|(package, _)| *package == command) {
                for line in instead.lines() {
                    self.do_one(&block, line.trim()).with_context(|| command.clone())?;
                }
            } else if !ELSEWHERE.iter().any(|(elsewhere, _, _)| *elsewhere == command) {
                self.do_one(&block, &command).with_context(|| format!("docs/guide/{page}"))?;
            }
        }
        Ok(())
    }

    fn block(&mut self, page: &str, language: &str, words: &str) -> Result<Block> {
        let is_it = |block: &Block| {
            let first = block.lines.first().is_some_and(|line| line.starts_with(words));
            block.page == page && block.language == language && first
        };
        let found = self.blocks.iter_mut().find(|(block, _)| is_it(block));
        let (block, used) = found.with_context(|| format!("docs/guide/{page} has no block {words:?}"))?;
        *used = true;
        Ok(block.clone())
    }

    fn do_one(&mut self, block: &Block, command: &str) -> Result<()> {
        let starts = ["systemctl enable --now ", "systemctl restart "];
        let unit = starts.iter().find_map(|words| command.strip_prefix(words));
        if let Some(unit) = unit {
            // One that runs ends as it is dropped.
            self.units.remove(unit);
        }
        let whole = block.lines.join("\n");
        let machine = self.machine(command).or_else(|| self.machine(&whole));
        let machine = machine.with_context(|| format!("{command}: on which machine?"))?;
        if let Some(name) = unit {
            let unit = Unit::start(machine, name).with_context(|| command.to_owned())?;
            self.units.insert(name.to_owned(), unit);
            return Ok(());
        }
        let begun = Instant::now();
        let (code, said) = machine.type_line(&self.here(command))?;
        println!("{}# {command} ({:.1} s)\n{said}", machine.name(), begun.elapsed().as_secs_f64());
        let may = code == 0 || (command, code) == FINDS_FAILURES;
        ensure!(may, "`{command}` ends with {code}: {said}");
        Ok(())
    }

    /// Every block of the shell was typed, and what is not typed here is in the guide, and elsewhere.
    fn ensure_complete(&self) -> Result<()> {
        for (block, used) in &self.blocks {
            ensure!(*used || block.language == "text", "{}: nobody follows {:?}", block.page, block.lines);
        }
        let commands: Vec<String> = self.blocks.iter().flat_map(|(block, _)| block.commands()).collect();
        for (command, file, words) in ELSEWHERE {
            ensure!(commands.iter().any(|known| known == command), "the guide has no {command:?} any more");
            let text = std::fs::read_to_string(root().join(file)).with_context(|| file.to_owned())?;
            ensure!(text.contains(words), "{file} does not do {command:?} any more");
        }
        Ok(())
    }

    fn status(&self, machine: &Machine, program: &str) -> Result<Value> {
        let text = machine.run(&format!("{program} status --json"))?;
        serde_json::from_str(&text).with_context(|| format!("{program} says {text:?}"))
    }

    /// Waits until the item is protected, and nothing is on its way.
    fn wait_until_drained(&self) -> Result<Value> {
        wait_for("the master target to have everything", LONGEST, || {
            let target = self.status(self.target(), "mtctl")?;
            let source = self.status(self.source(), "mt-source")?;
            let number = |name: &str| source[name].as_u64().unwrap_or_default();
            let drained = number("acknowledged_sequence") + 1 >= number("next_sequence");
            let level = source["state"] == "level" && target["items"][0]["state"] == "protected";
            Ok((level && drained).then(|| target["items"][0].clone()))
        })
    }

    /// Waits until the configuration server has heard all machines anew.
    fn wait_until_told(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let from = u64::try_from(now.as_nanos())? + 2 * HEARTBEAT * 1_000_000_000;
        wait_for("the configuration server to hear all machines", LONGEST, || {
            let items: Value = serde_json::from_str(&self.machines[1].run("mt-configserver items --json")?)?;
            Ok(items["items"][0]["reported"].as_u64().filter(|reported| *reported > from).map(drop))
        })
    }

    /// Writes to the protected disk, as its machine does; gives a copy of what the disk is then.
    fn write(&self, pattern: u8, name: &str) -> Result<PathBuf> {
        self.write_by(&format!("write -P {pattern} {}k 1M", u32::from(pattern) * 64))?;
        let copied = self.source().file(name);
        copy(&self.disk(), &copied)?;
        Ok(copied)
    }

    /// What qemu-io is to write to the protected disk.
    fn write_by(&self, command: &str) -> Result<()> {
        let said = self.source().run(&format!("qemu-io -f raw -c '{command}' '{URI}'"))?;
        // It ends well whatever became of the command, in some versions.
        ensure!(said.contains("wrote"), "{command}: {said}");
        Ok(())
    }

    fn disk(&self) -> PathBuf {
        self.source().file("srv/disk0.img")
    }

    /// Whether the VMDK holds what was on the disk.
    fn ensure_replica_is(&self, disk: &Path) -> Result<()> {
        let copied = copy_of_held(&self.target().file("srv/web01.vmdk"), &self.target().file("copies"))?;
        compare(&copied.to_string_lossy(), "vmdk", &disk.to_string_lossy(), "raw")
    }

    /// Whether the test failover that runs shows what was on the disk.
    fn ensure_view_is(&self, disk: &Path) -> Result<()> {
        let list = self.target().run("mtctl test-failover list --json")?;
        let list: Value = serde_json::from_str(&list)?;
        let uri =
            list["test_failovers"][0]["exports"][0]["uri"].as_str().with_context(|| format!("{list}"))?;
        copy(disk, &self.target().file("srv/wanted.img"))?;
        let compared =
            self.target().run(&format!("qemu-img compare -f raw -F raw '{uri}' /srv/wanted.img"))?;
        ensure!(compared.contains("identical"), "{compared}");
        Ok(())
    }
}

/// A disk, and the VMDK that the machine had at home: most of what is on both is the same.
fn make_disks(reader: &Reader) -> Result<()> {
    let (old, vmdk) = (reader.source().file("old.img"), reader.target().file("srv/web01.vmdk"));
    let mut bytes = Random::new(1).bytes(SIZE);
    std::fs::write(&old, &bytes)?;
    run(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "vmdk", &old.to_string_lossy(), &vmdk.to_string_lossy()],
    )?;
    bytes[8 << 20..9 << 20].fill(0xa5);
    Ok(std::fs::write(reader.disk(), bytes)?)
}

/// The next full second, once it is over.
fn moment() -> Result<String> {
    let seconds =
        || Ok::<u64, anyhow::Error>(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs());
    let wanted = seconds()? + 1;
    wait_for("a second to be over", LONGEST, || Ok((seconds()? > wanted).then_some(())))?;
    Ok(run("date", &["-u", "-d", &format!("@{wanted}"), "+%Y-%m-%dT%H:%M:%SZ"])?.trim().to_owned())
}

fn install(reader: &mut Reader) -> Result<()> {
    for (package, _) in &PACKAGES[..3] {
        reader.follow("install.md", package)?;
    }
    let disks = reader.block("install.md", "toml", "[[disks]]")?;
    let disks = reader.here(&disks.lines.join("\n"));
    std::fs::write(reader.source().path("/etc/master-target/mt-source.toml"), disks)?;
    reader.follow("register.md", "mt-configserver passphrase show")?;
    reader.follow("install.md", "systemctl enable --now mt-source")?;
    install_process_server(reader).context("a process server")
}

fn install_process_server(reader: &mut Reader) -> Result<()> {
    let page = "process-server.md";
    reader.follow(page, PACKAGES[3].0)?;
    let targets = reader.block(page, "toml", "[[master_targets]]")?.lines.join("\n");
    let file = reader.machines[3].path("/etc/master-target/process-server.toml");
    std::fs::write(file, PROCESS_SERVER.to_owned() + &targets)?;
    reader.follow(page, "mt-process-server relay --check")?;
    reader.follow(page, "mt-configserver passphrase show")
}

/// What the guide orders on the configuration server, of the item alone and of its group, and takes back. The disk is `disk`.
fn order_on_the_server(reader: &mut Reader, page: &str, disk: &Path) -> Result<()> {
    reader.wait_until_told()?;
    reader.follow(page, "mt-configserver failover web01 --planned")?;
    reader.ensure_replica_is(disk)?;
    reader.follow(page, "mt-configserver cancel-failover web01")?;
    let page = "groups.md";
    reader.follow(page, "mt-configserver group add Shop")?;
    reader.wait_until_drained()?;
    reader.wait_until_told()?;
    reader.follow(page, "mt-configserver group bookmark Shop")?;
    reader.follow(page, "mt-configserver group failover Shop --planned")?;
    reader.ensure_replica_is(disk)?;
    reader.wait_until_drained().map(drop)
}

#[test]
fn a_machine_comes_home_by_the_commands_of_the_guide() -> Result<()> {
    if !is_root("following the guide on machines made of namespaces") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut reader = Reader::new(folder.path())?;
    make_disks(&reader)?;
    install(&mut reader).context("installing")?;

    let page = "failback.md";
    reader.follow(page, "mtctl check")?;
    reader.follow(page, "mtctl protect web01")?;
    let received = reader.wait_until_drained()?["received_bytes"].as_u64().context("no bytes")?;
    ensure!(received < 8 << 20, "{received} bytes travelled, though only a MiB differs");
    let upgrade = reader.write(1, "upgrade.img")?;
    reader.wait_until_drained()?;
    reader.ensure_replica_is(&upgrade)?;
    reader.follow(page, "mt-source bookmark before-the-upgrade")?;
    let later = reader.write(2, "later.img")?;
    reader.wait_until_drained()?;

    reader.follow_looking(page, "mtctl test-failover start", |reader, command| {
        let ends = command.starts_with("mtctl test-failover stop");
        if ends { reader.ensure_view_is(&upgrade) } else { Ok(()) }
    })?;

    order_on_the_server(&mut reader, page, &later).context("ordering on the configuration server")?;

    let time = moment()?;
    reader.table.push((MOMENT.to_owned(), time));
    let newest = reader.write(3, "newest.img")?;
    reader.follow(page, "mt-source quiesce")?;
    reader.ensure_replica_is(&newest)?;
    reader.follow(page, "mtctl failover web01 --point latest")?;
    reader.ensure_replica_is(&later)?;
    reader.follow(page, "mtctl cancel-failover web01")?;
    reader.wait_until_drained()?;
    let last = reader.write(4, "last.img")?;
    reader.follow(page, "mt-source quiesce")?;
    reader.ensure_replica_is(&last)?;
    reader.follow(page, "mtctl commit web01")?;

    let items = reader.status(reader.target(), "mtctl")?["items"].clone();
    ensure!(items == serde_json::json!([]), "after the commit there is {items}");
    ensure!(reader.status(reader.source(), "mt-source")?["state"] == "not-assigned", "the source goes on");
    ensure!(reader.write_by("write 0 64k").is_err(), "what was left behind is written to");
    // Nobody holds it any more.
    let vmdk = reader.target().file("srv/web01.vmdk").to_string_lossy().into_owned();
    run("qemu-img", &["check", "-q", "-f", "vmdk", &vmdk])?;
    let disk = reader.source().file("committed.img");
    copy(&reader.disk(), &disk)?;
    compare(&vmdk, "vmdk", &disk.to_string_lossy(), "raw")?;
    reader.follow(page, "mt-source unquiesce")?;
    reader.write_by("write 0 64k")?;
    reader.ensure_complete()
}
