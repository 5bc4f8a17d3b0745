//! A machine for tests: a folder with a sysfs and programs that change it, as `dmsetup` and `multipathd` change the
//! real one. It can lose its power after any number of program runs.

use crate::system::System;
use std::fs;
use std::path::PathBuf;

const DMSETUP: &str = include_str!("fake_machine/dmsetup");
const MULTIPATH: &str = include_str!("fake_machine/multipath");
const MULTIPATHD: &str = include_str!("fake_machine/multipathd");

pub(crate) struct FakeMachine {
    root: tempfile::TempDir,
}

impl FakeMachine {
    pub(crate) fn new() -> FakeMachine {
        let machine = FakeMachine { root: tempfile::tempdir().unwrap() };
        for folder in
            ["sbin", "sys/block", "dev/mapper", "proc/self", "etc/multipath/conf.d", "tables", "busy"]
        {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        for (name, script) in [("dmsetup", DMSETUP), ("multipath", MULTIPATH), ("multipathd", MULTIPATHD)] {
            let script = script.replace("@ROOT@", machine.root.path().to_str().unwrap());
            testkit::program(&machine.path("sbin").join(name), &script);
        }
        machine.write("proc/self/mountinfo", "");
        machine.fuel(u32::MAX);
        machine
    }

    pub(crate) fn system(&self) -> System {
        System::at(self.root.path())
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A disk of the kernel, with a node that is a file of zeroes.
    pub(crate) fn disk(&self, name: &str, number: &str, bytes: u64) {
        for (attribute, value) in
            [("dev", number), ("size", &(bytes / 512).to_string()), ("ro", "0"), ("removable", "0")]
        {
            self.write(&format!("sys/block/{name}/{attribute}"), value);
        }
        fs::create_dir_all(self.path(&format!("sys/block/{name}/holders"))).unwrap();
        fs::File::create(self.path(&format!("dev/{name}"))).unwrap().set_len(bytes).unwrap();
    }

    /// After so many runs of a program nothing works any more.
    pub(crate) fn fuel(&self, runs: u32) {
        self.write("fuel", runs.to_string());
    }

    /// How dmsetup behaves: "no-node", "refuse", "half", "back-once", "back-always" or "".
    pub(crate) fn mode(&self, mode: &str) {
        self.write("mode", mode);
    }

    /// What dmsetup was given, one run each; queries are left out.
    pub(crate) fn log(&self) -> Vec<String> {
        fs::read_to_string(self.path("log")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    pub(crate) fn forget_log(&self) {
        let _ = fs::remove_file(self.path("log"));
    }
}
