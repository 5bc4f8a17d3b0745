//! A configuration server to look at, with users who can log in.

use portal::Browser;
use rig::{ConfigurationServer, Rig};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery";

/// A running configuration server and a browser.
pub(crate) struct Site {
    pub(crate) browser: Browser,
    pub(crate) server: ConfigurationServer,
    pub(crate) rig: Rig,
    _folder: TempDir,
}

impl Site {
    /// Starts both.
    pub(crate) fn start() -> Site {
        let programs = rig::build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::new(folder.path(), &programs).unwrap();
        let server = ConfigurationServer::start(&rig).unwrap();
        let site = Site { browser: Browser::start().unwrap(), server, rig, _folder: folder };
        for role in ["reader", "operator", "administrator"] {
            site.add_user(role);
        }
        site
    }

    /// A user who is called as the role.
    fn add_user(&self, role: &str) {
        let configuration = self.rig.folder.join("configuration-server/configserver.toml");
        let mut child = Command::new(self.rig.program("mt-configserver").unwrap())
            .args(["user", "add", &format!("the-{role}"), "--role", role, "--config"])
            .arg(configuration)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), format!("{PASSWORD}\n").as_bytes()).unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    pub(crate) fn log_in(&self, role: &str) {
        self.browser.log_in(&self.server.url(), &format!("the-{role}"), PASSWORD).unwrap();
    }

    /// Opens a page of the portal.
    pub(crate) fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.server.url())).unwrap();
    }
}

/// Where pictures are kept.
pub(crate) fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("portal-screenshots")
}
