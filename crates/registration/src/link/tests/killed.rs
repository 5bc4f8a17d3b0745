//! A program that is killed around each step of a job. What it did is counted: each job has its effect once.

use super::server::Server;
use super::{End, Hub, Job, Link, Tester};
use control_api::agent::{JobKind, JobState};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::Rng;

const STATE: &str = "LINK_TEST_STATE";
const DIE: &str = "LINK_TEST_DIE";

/// Where a program kills itself, at its first attempt.
const STEPS: [&str; 5] = ["begun", "noted", "half", "done", "told"];

/// Not a test of its own: the program that the tests here start and kill.
#[test]
fn program() {
    let Ok(state) = std::env::var(STATE) else { return };
    let (state, die) = (PathBuf::from(state), std::env::var(DIE).unwrap_or_default());
    let effects = state.clone();
    let tester = Tester::new(move |job| carry_out(job, &effects, &die));
    let _link = Link::start(&state, Hub::new(), tester);
    std::thread::sleep(Duration::from_secs(600));
}

/// The effect is a line in a file; whether it is there already can be seen, as in a real job.
fn carry_out(job: &Job, state: &Path, die: &str) -> Result<String, End> {
    let step = |name: &str| {
        if die == name && !job.is_continued() {
            // SIGKILL: nothing is closed, nothing is written.
            let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            std::thread::sleep(Duration::from_secs(60));
        }
    };
    step("begun");
    job.begin("look");
    let effects = state.join("effects");
    let line = format!("{}\n", job.order().id);
    let there = || std::fs::read_to_string(&effects).is_ok_and(|text| text.contains(&line));
    let done = job.noted().is_some() && there();
    if !done {
        job.note("about to")?;
        step("noted");
        job.begin("do");
        let mut file = OpenOptions::new().append(true).create(true).open(&effects).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        step("half");
        file.sync_all().unwrap();
    }
    step("done");
    std::thread::sleep(Duration::from_millis(if die == "told" { 700 } else { 0 }));
    step("told");
    Ok("there".into())
}

struct Program(Child);

impl Program {
    fn start(state: &Path, die: &str) -> Program {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["link::tests::killed::program", "--exact"])
            .env(STATE, state)
            .env(DIE, die)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Program(child.unwrap())
    }
}

/// SIGKILL.
impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn effects(state: &Path, id: &str) -> usize {
    let text = std::fs::read_to_string(state.join("effects")).unwrap_or_default();
    text.lines().filter(|line| *line == id).count()
}

fn bookmark() -> JobKind {
    JobKind::Bookmark { name: "b".into(), application_consistent: false }
}

#[test]
fn a_job_whose_program_is_killed_at_any_step_has_its_effect_once() {
    for (number, die) in STEPS.into_iter().enumerate() {
        let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
        server.authority.register(state.path(), server.port, "mt01");
        let mut program = Program::start(state.path(), die);
        let id = server.order(number as u64 + 1, bookmark());
        program.0.wait().unwrap();
        assert!(server.with(|known| known.end_of(&id)).is_none(), "{die}: it was killed before the end");
        let _again = Program::start(state.path(), "");
        let report = server.wait("the end", |known| known.end_of(&id));
        assert_eq!((report.state, effects(state.path(), &id)), (JobState::Succeeded, 1), "{die}");
    }
}

/// Killed from outside, around the messages: when the order is out, when the first report came, when the last one came and
/// was not answered, and when it was.
#[test]
fn a_program_that_is_killed_around_its_messages_does_nothing_twice() {
    for number in 1..=4 {
        let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
        server.authority.register(state.path(), server.port, "mt01");
        let program = Program::start(state.path(), "");
        server.wait("the question for jobs", |known| (known.asked > 0).then_some(()));
        if number == 3 {
            server.with(|known| known.refuse_reports = usize::MAX);
        }
        let id = server.order(number, bookmark());
        match number {
            1 => {}
            2 => server.wait("a report", |known| known.reports.first().map(|_| ())),
            3 => {
                super::wait("the effect", || effects(state.path(), &id) == 1);
                server.wait("refusals", |known| (known.refuse_reports < usize::MAX).then_some(()));
            }
            _ => server.wait("the end", |known| known.end_of(&id).map(|_| ())),
        }
        drop(program);
        server.with(|known| known.refuse_reports = 0);
        let _again = Program::start(state.path(), "");
        let report = server.wait("the end", |known| known.end_of(&id));
        assert_eq!((report.state, effects(state.path(), &id)), (JobState::Succeeded, 1), "{number}");
        // It is given once more.
        server.with(|known| known.reports.clear());
        server.order(number, bookmark());
        server.wait("the end once more", |known| known.end_of(&id));
        assert_eq!(effects(state.path(), &id), 1, "{number}");
    }
}

/// Any moment, many jobs.
#[test]
fn jobs_run_once_however_often_their_program_is_killed() {
    let seed = u64::from(std::process::id()) ^ 0x6b69_6c6c;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    server.authority.register(state.path(), server.port, "mt01");
    let ids: Vec<String> = (1..=30).map(|number| server.order(number, bookmark())).collect();
    let mut kills = 0;
    while kills < 12 {
        let program = Program::start(state.path(), "");
        std::thread::sleep(Duration::from_millis(20 + rng.below(400)));
        drop(program);
        kills += 1;
    }
    let _last = Program::start(state.path(), "");
    for id in &ids {
        let report = server.wait("the end", |known| known.end_of(id));
        let effects = effects(state.path(), id);
        // One that its program did not survive five times is given up, and tells so.
        match report.state {
            JobState::Succeeded => assert_eq!(effects, 1, "{id}"),
            _ => assert!(report.failure.unwrap().why.contains("has ended 5 times"), "{id}"),
        }
    }
    assert!(File::open(state.path().join("effects")).is_ok());
}
