//! What the database has to do: pgbench, and clients whose every transaction is known.

use crate::{Ledger, Postgres};
use anyhow::{Context, Result};
use rig::Process;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Clients that the ledger knows.
pub(crate) const CLIENTS: usize = 4;
/// Pause of a client between two transactions.
const PAUSE: Duration = Duration::from_millis(4);
/// Transactions of pgbench in a second.
const RATE: &str = "150";

/// Both, until it is dropped or the database goes away.
pub(crate) struct Work {
    _pgbench: Process,
    clients: Vec<Client>,
}

struct Client {
    psql: Child,
    thread: Option<JoinHandle<()>>,
}

impl Work {
    /// Begins.
    pub(crate) fn start(postgres: &Postgres, ledger: &Arc<Ledger>, folder: &Path) -> Result<Work> {
        let mut command = postgres.client("pgbench")?;
        // Without -n it would empty its history first.
        command.args(["--no-vacuum", "--client=4", "--time=36000", "--rate", RATE, "postgres"]);
        let pgbench = Process::start(command, &folder.join("pgbench.log"))?;
        let clients = (0..CLIENTS).map(|client| Client::start(postgres, ledger, client));
        Ok(Work { _pgbench: pgbench, clients: clients.collect::<Result<_>>()? })
    }

    /// False when a client has lost the database.
    pub(crate) fn is_going_on(&self) -> bool {
        self.clients.iter().all(|client| client.thread.as_ref().is_some_and(|thread| !thread.is_finished()))
    }
}

impl Client {
    fn start(postgres: &Postgres, ledger: &Arc<Ledger>, client: usize) -> Result<Client> {
        let mut command = postgres.psql()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut psql = command.spawn().context("cannot run psql")?;
        let (input, output) = (psql.stdin.take(), psql.stdout.take());
        let (input, output) = input.zip(output).context("psql has pipes")?;
        let ledger = ledger.clone();
        let thread = std::thread::spawn(move || {
            // It ends when psql does, which is when the database has gone away.
            let _ = insert_rows(client, input, BufReader::new(output), &ledger);
        });
        Ok(Client { psql, thread: Some(thread) })
    }
}

fn insert_rows(
    client: usize,
    mut input: ChildStdin,
    mut output: BufReader<ChildStdout>,
    ledger: &Ledger,
) -> std::io::Result<()> {
    loop {
        let number = ledger.begin(client);
        // psql comes to the second command only when the commit of the first has returned.
        let insert = format!("insert into ledger values ({client}, {number}, repeat('x', 100));");
        input.write_all(format!("{insert}\n\\echo {number}\n").as_bytes())?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.trim() != number.to_string() {
            return Ok(());
        }
        ledger.committed((client, number));
        std::thread::sleep(PAUSE);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // What it was at may be in the database or not, as after a crash.
        let _ = self.psql.kill();
        let _ = self.psql.wait();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
