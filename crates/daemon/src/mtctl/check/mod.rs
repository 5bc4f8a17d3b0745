//! `mtctl check`.

mod text;

use super::cli::CheckArguments;
use super::run::{Outcome, ask};
use crate::preflight::{self, Check, Fixer, Machine, MachineOptions, Report, Step, Verdict};
use serde_json::{Value, json};
use std::io::IsTerminal;

pub(super) fn run(arguments: &CheckArguments, json: bool) -> Outcome {
    match carry_out(arguments, json) {
        Ok(outcome) => outcome,
        Err(Refusal::Usage(message)) => complain(&message, json, Outcome::Usage),
        Err(Refusal::Failed(message)) => complain(&message, json, Outcome::Failed),
    }
}

/// Why nothing was done.
enum Refusal {
    Usage(String),
    Failed(String),
}

impl From<preflight::FixError> for Refusal {
    fn from(error: preflight::FixError) -> Refusal {
        Refusal::Failed(error.to_string())
    }
}

fn complain(message: &str, json: bool, outcome: Outcome) -> Outcome {
    match json {
        true => println!("{}", json!({ "failed": message })),
        false => eprintln!("mtctl: {message}"),
    }
    outcome
}

fn carry_out(arguments: &CheckArguments, json: bool) -> Result<Outcome, Refusal> {
    if let Some(id) = &arguments.explain {
        let check = preflight::find(id).map_err(Refusal::Usage)?;
        return Ok(print(&text::explanation(check), || explanation(check), json));
    }
    let only: Result<Vec<&Check>, String> = arguments.only.iter().map(|id| preflight::find(id)).collect();
    let only = only.map_err(Refusal::Usage)?;
    let machine = look_at(arguments);
    if let Some(id) = &arguments.attest {
        return attest(&machine, id, arguments.by.as_deref().unwrap_or_default(), json);
    }
    if arguments.fix {
        return fix(arguments, &machine, &only, json);
    }
    if arguments.undo {
        return undo(arguments, &machine, json);
    }
    let report = preflight::run(&machine, &only);
    print(&text::report(&report, coloured()), || report.json(), json);
    Ok(outcome_of(&report))
}

fn look_at(arguments: &CheckArguments) -> Machine {
    Machine::new(MachineOptions::host(&arguments.config, arguments.cs.clone()))
}

fn outcome_of(report: &Report) -> Outcome {
    if report.count(Verdict::Failed) == 0 { Outcome::Done } else { Outcome::CheckFailed }
}

fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn print(text: &str, value: impl FnOnce() -> Value, json: bool) -> Outcome {
    match json {
        true => println!("{}", value()),
        false => print!("{text}"),
    }
    Outcome::Done
}

fn explanation(check: &Check) -> Value {
    json!({
        "id": check.id,
        "title": check.title,
        "needed": check.needed,
        "why": check.why,
        "fixable": check.fixable(),
    })
}

fn attest(machine: &Machine, id: &str, by: &str, json: bool) -> Result<Outcome, Refusal> {
    let check = preflight::find(id).map_err(Refusal::Usage)?;
    let kept = preflight::attest(&machine.state_path(), check, by, machine.now()).map_err(Refusal::Failed)?;
    let text = text::attested(check, &kept);
    Ok(print(&text, || json!({ "attested": kept }), json))
}

/// Whether there is somebody to ask; without, `--yes` must have answered.
fn somebody_answers(arguments: &CheckArguments, json: bool) -> Result<(), Refusal> {
    match arguments.yes || (std::io::stdin().is_terminal() && !json) {
        true => Ok(()),
        false => Err(Refusal::Usage("nobody is there to ask; give --yes to do it all".to_owned())),
    }
}

/// What became of steps.
#[derive(Default)]
struct Steps {
    done: Vec<String>,
    failed: Vec<String>,
}

impl Steps {
    fn note(&mut self, shown: &str, outcome: Result<(), preflight::FixError>, json: bool) {
        match outcome {
            Ok(()) => {
                if !json {
                    println!("done: {shown}");
                }
                self.done.push(shown.to_owned());
            }
            Err(error) => {
                if !json {
                    eprintln!("mtctl: {shown}: {error}");
                }
                self.failed.push(format!("{shown}: {error}"));
            }
        }
    }

    fn outcome(&self) -> Outcome {
        if self.failed.is_empty() { Outcome::Done } else { Outcome::Failed }
    }
}

fn agreed(arguments: &CheckArguments, step: &Step) -> bool {
    arguments.yes || ask(&format!("{}: {}?", step.check, step.shown)).is_ok()
}

fn fix(
    arguments: &CheckArguments,
    machine: &Machine,
    only: &[&'static Check],
    json: bool,
) -> Result<Outcome, Refusal> {
    let (steps, refused) = Fixer::plan(machine, only);
    if !json {
        print!("{}", text::plan(&steps, &refused));
    }
    let mut outcome = Steps::default();
    if !steps.is_empty() {
        somebody_answers(arguments, json)?;
        let agreed: Vec<&Step> = steps.iter().filter(|step| agreed(arguments, step)).collect();
        if let Some(mut fixer) = (!agreed.is_empty()).then(|| Fixer::open(machine)).transpose()? {
            agreed.iter().for_each(|step| outcome.note(&step.shown, fixer.make(step), json));
        }
    }
    let touched: Vec<&Check> = steps.iter().filter_map(|step| preflight::find(&step.check).ok()).collect();
    let report = (!touched.is_empty()).then(|| preflight::run(&look_at(arguments), &touched));
    if json {
        let report = report.map(|report| report.json());
        println!(
            "{}",
            json!({ "done": outcome.done, "failed": outcome.failed, "refused": refused, "now": report })
        );
    } else if let Some(report) = report {
        print!("{}", text::report(&report, coloured()));
    }
    Ok(outcome.outcome())
}

/// Changes lie on one another, so the first one that stays ends it.
fn undo(arguments: &CheckArguments, machine: &Machine, json: bool) -> Result<Outcome, Refusal> {
    let mut outcome = Steps::default();
    if Fixer::has_ledger(machine) {
        somebody_answers(arguments, json)?;
        let mut fixer = Fixer::open(machine)?;
        for step in fixer.made() {
            if !agreed(arguments, &step) {
                break;
            }
            outcome.note(&step.shown, fixer.undo_last(), json);
            if !outcome.failed.is_empty() {
                break;
            }
        }
    } else if !json {
        println!("there is nothing to undo");
    }
    if json {
        println!("{}", json!({ "done": outcome.done, "failed": outcome.failed }));
    }
    Ok(outcome.outcome())
}
