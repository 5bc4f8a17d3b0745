//! Those who may use the portal: one of each role.

use crate::server::Server;
use anyhow::Result;

/// Makes an administrator, an operator and a reader, and gives their names and passwords, the administrator first.
pub fn make(server: &mut Server) -> Result<Vec<(String, String)>> {
    let mut add = |role: &str| -> Result<(String, String)> {
        let name = format!("trial-{role}");
        let words = ["user", "add", &name, "--role", role, "--generate"];
        let password = server.running().command(&words)?;
        Ok((name.clone(), password.trim().to_owned()))
    };
    ["administrator", "operator", "reader"].into_iter().map(&mut add).collect()
}
