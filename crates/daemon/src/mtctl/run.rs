//! Carries out a command and prints what came of it.

use super::cli::{
    Arguments, Command, LogsOfItem, PointsArguments, PolicyArguments, ProtectArguments, TestFailoverCommand,
};
use super::client::{Client, ClientError};
use super::progress::Bars;
use super::{check, disk_maps, disks, partitions, register, retention, support_bundle, table};
use control_api::agent::{ItemOrder, ItemPolicy};
use control_api::time::{SECOND, Time};
use control_api::{Answer, Call};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Done.
    Done = 0,
    /// Failed; why was printed.
    Failed = 1,
    /// It was used wrongly; how to use it was printed.
    Usage = 2,
    /// A check found a failure.
    CheckFailed = 3,
}

/// The unit of the daemon.
pub(super) const UNIT: &str = "master-target.service";

/// Clears the screen and goes to its upper left corner.
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";

/// Carries out a command.
pub fn run(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Disks(disks) if disks.map || disks.unmap => return disk_maps::run(disks, arguments.json),
        Command::Disks(disks) => return disks::run(disks, arguments.json),
        Command::Partitions(partitions) => return partitions::run(partitions, arguments.json),
        Command::Check(check) => return check::run(check, arguments.json),
        Command::Retention(retention) => return retention::run(retention, arguments),
        Command::SupportBundle(order) => {
            return support_bundle::run(order, &arguments.socket, arguments.json);
        }
        Command::Logs(logs) => return show_logs(logs, arguments.json),
        Command::Register(order) => return register::register(order, arguments.json),
        Command::Unregister(order) => return register::unregister(order, arguments.json),
        _ => {}
    }
    if let Some(question) = question(&arguments.command)
        && let Err(refusal) = ask(&question)
    {
        eprintln!("mtctl: {refusal}");
        return Outcome::Usage;
    }
    match carry_out(arguments) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            report(&error, arguments.json);
            Outcome::Failed
        }
    }
}

fn show_logs(logs: &LogsOfItem, json: bool) -> Outcome {
    let item = logs.item.as_deref().map(|item| ("ITEM", item));
    eprintln!("mtctl: {}", logs.which.show(UNIT, item.as_slice(), json));
    Outcome::Failed
}

fn report(error: &ClientError, json: bool) {
    match error {
        ClientError::Failed(failure) if json => println!("{}", json!({ "failed": failure })),
        _ => eprintln!("mtctl: {error}"),
    }
}

fn carry_out(arguments: &Arguments) -> Result<(), ClientError> {
    let mut client = match (&arguments.command, Client::connect(&arguments.socket)) {
        (Command::Version, Err(error)) => {
            print_own_version(arguments.json);
            return Err(error);
        }
        (_, connected) => connected?,
    };
    let watch = matches!(arguments.command, Command::Status { watch: true });
    let mut bars = Bars::new(!arguments.json && std::io::stderr().is_terminal());
    loop {
        let answer = client.call(call(&arguments.command), |progress| bars.show(progress));
        bars.finish();
        let text = if arguments.json { as_json(&answer?) } else { as_text(&answer?) };
        if watch && !arguments.json && std::io::stdout().is_terminal() {
            print!("{CLEAR}");
        }
        print!("{text}");
        std::io::stdout().flush()?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn call(command: &Command) -> Call {
    match command {
        Command::Status { .. } => Call::Status,
        Command::Items { item } => Call::Items { item: item.clone() },
        Command::Points(PointsArguments { item, from, to, bookmarks, limit }) => {
            Call::Points { item: item.clone(), from: *from, to: *to, bookmarks: *bookmarks, limit: *limit }
        }
        Command::TestFailover(TestFailoverCommand::Start { item, point, listen }) => {
            Call::TestFailoverStart { item: item.clone(), point: point.clone(), listen: listen.clone() }
        }
        Command::TestFailover(TestFailoverCommand::Stop { id }) => Call::TestFailoverStop { id: *id },
        Command::TestFailover(TestFailoverCommand::List) => Call::TestFailoverList,
        Command::Failover { item, point, .. } => Call::Failover { item: item.clone(), point: point.clone() },
        Command::CancelFailover { item } => Call::CancelFailover { item: item.clone() },
        Command::Commit { item, .. } => Call::Commit { item: item.clone() },
        Command::Export { item, disk, point, format, to } => Call::Export {
            item: item.clone(),
            disk: disk.clone(),
            point: point.clone(),
            format: format.clone(),
            to: absolute(to),
        },
        Command::Resume { item } => Call::Resume { item: item.clone() },
        Command::Resync { item } => Call::Resync { item: item.clone() },
        Command::Protect(order) => Call::Protect { item: item_of(order) },
        Command::Release { item, .. } => Call::Release { item: item.clone() },
        Command::Policy(PolicyArguments { item, changes }) => Call::SetPolicy {
            item: item.clone(),
            window_seconds: changes.window,
            rpo_threshold_seconds: changes.rpo,
            application_consistent_every_seconds: changes.application_consistent,
            min_journal: changes.min_journal.clone(),
            max_journal: changes.max_journal.clone(),
        },
        Command::Version => Call::Version,
        Command::Disks(_) | Command::Partitions(_) | Command::Check(_) | Command::Retention(_) => {
            unreachable!("carried out elsewhere")
        }
        Command::Register(_) | Command::Unregister(_) | Command::Logs(_) | Command::SupportBundle(_) => {
            unreachable!("carried out without the daemon")
        }
    }
}

fn item_of(order: &ProtectArguments) -> ItemOrder {
    let policy = ItemPolicy {
        window_seconds: order.window,
        rpo_threshold_seconds: order.rpo,
        application_consistent_every_seconds: Some(order.application_consistent).filter(|every| *every > 0),
    };
    let (name, source) = (order.item.clone(), order.source.clone());
    ItemOrder { name, source, policy, disks: order.disks.clone() }
}

/// The daemon has another working folder than the person who types.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

fn as_json(answer: &Answer) -> String {
    let value = match answer {
        Answer::Version(version) => json!({ "mtctl": env!("CARGO_PKG_VERSION"), "daemon": version }),
        Answer::Status(status) => json!(status),
        Answer::Items(items) => json!({ "items": items }),
        Answer::Points(points) => json!({ "points": points }),
        Answer::TestFailover(test) => json!(test),
        Answer::TestFailovers(list) => json!({ "test_failovers": list }),
        Answer::Message(message) => json!({ "message": message }),
    };
    format!("{value}\n")
}

fn as_text(answer: &Answer) -> String {
    match answer {
        Answer::Version(daemon) => format!(
            "mtctl {}\nmtd {} (local API {}, change stream {})\n",
            env!("CARGO_PKG_VERSION"),
            daemon.version,
            daemon.api,
            daemon.change_stream
        ),
        Answer::Status(status) => table::status(status),
        Answer::Items(items) => table::items(items),
        Answer::Points(points) => table::points(points),
        Answer::TestFailover(test) => table::test_failovers(std::slice::from_ref(test), test.started),
        Answer::TestFailovers(list) => table::test_failovers(list, now()),
        Answer::Message(message) => format!("{message}\n"),
    }
}

fn print_own_version(json: bool) {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        println!("{}", json!({ "mtctl": version }));
    } else {
        println!("mtctl {version}");
    }
}

pub(super) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * SECOND + u64::from(since.subsec_nanos())
}

/// What to ask before a command that destroys something, unless `--yes` answers it.
fn question(command: &Command) -> Option<String> {
    match command {
        Command::Failover { item, point, yes: false } => {
            Some(format!("Write the recovery point {point} to the disks of {item} and stop replicating it?"))
        }
        Command::Release { item, yes: false } => Some(format!(
            "Stop replicating {item} and remove its recovery points? Its disks stay as they are."
        )),
        Command::Commit { item, yes: false } => {
            Some(format!("Give up the way back of {item} and remove its recovery points?"))
        }
        _ => None,
    }
}

pub(super) fn ask(question: &str) -> Result<(), String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err("this cannot be undone easily and nobody is there to ask; give --yes to do it".into());
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    let _ = stdin.lock().read_line(&mut line);
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err("nothing was done".into()),
    }
}
