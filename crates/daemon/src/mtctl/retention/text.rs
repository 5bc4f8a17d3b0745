//! A preparation as people get to see it.

use super::super::disks::text::printable;
use disk::Bytes;
use retention_volume::Space;
use retention_volume::prepare::{Plan, Step};
use std::fmt::Write;
use std::time::Duration;

/// The disk, the steps, what changes in fstab, and what one should know.
pub(super) fn plan(plan: &Plan, notes: &[String]) -> String {
    let disk = &plan.disk;
    let mut text = format!("{}\n", printable(&disk.name));
    let file_system = match plan.erases() {
        Some(_) => "ext4, to be made".to_owned(),
        None => format!("ext4, kept, UUID {}", plan.file_system),
    };
    let facts = [
        ("model", disk.model.clone()),
        ("size", disk.size.to_string()),
        ("SCSI id", disk.scsi_id.to_string()),
        ("mount point", plan.mount_point.display().to_string()),
        ("file system", file_system),
    ];
    for (key, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {key:<14}{}", printable(value));
    }
    text.push('\n');
    for (number, step) in (1..).zip(&plan.steps) {
        let _ = writeln!(text, "{number:>3}. {}", printable(&step.to_string()));
    }
    if plan.steps.is_empty() {
        let _ = writeln!(text, "nothing to do: it is the retention volume at {}", plan.mount_point.display());
    }
    let difference = plan.fstab_difference();
    if !difference.is_empty() {
        text.push('\n');
        for line in difference.lines() {
            let _ = writeln!(text, "{}", printable_line(line));
        }
    }
    if !notes.is_empty() || !plan.notes.is_empty() {
        text.push('\n');
    }
    for note in notes.iter().chain(&plan.notes) {
        let _ = writeln!(text, "NOTE {}", printable(note));
    }
    text
}

/// Tabs of fstab are no harm.
fn printable_line(line: &str) -> String {
    line.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

/// What to ask before; it names what will be gone.
pub(super) fn question(plan: &Plan) -> String {
    let disk = format!("{} ({}, {})", plan.disk.name, plan.disk.size, plan.disk.scsi_id);
    let place = plan.mount_point.display();
    match plan.erases() {
        Some(Some(erased)) => {
            format!("ERASE {erased} on {disk}, and make it the retention volume at {place}?")
        }
        Some(None) => format!(
            "Make the disk {disk}, which is empty as far as can be seen, the retention volume at {place}?"
        ),
        None => format!("Make {disk} the retention volume at {place}? What is on it stays."),
    }
}

/// The beginning of a line that [`ended`] ends.
pub(super) fn begun(number: usize, all: usize, step: &Step) -> String {
    format!("{number:>3}/{all} {} …", printable(&step.to_string()))
}

pub(super) fn ended(took: Duration, told: Option<&str>) -> String {
    let told = told.map(|told| format!(" ({})", printable(told))).unwrap_or_default();
    format!(" ok, {:.1} s{told}\n", took.as_secs_f64())
}

/// What there is now.
pub(super) fn done(plan: &Plan, space: Option<Space>) -> String {
    let available = space.map_or(Bytes::ZERO, |space| space.available);
    format!(
        "\n{} is the retention volume: {} at {}, {available} available\n",
        printable(&plan.disk.name),
        plan.disk.device(),
        plan.mount_point.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_that_ends_when_it_is_done() {
        let step = Step::Unmap { map: "mpath\ta".into() };
        let line = begun(2, 8, &step) + &ended(Duration::from_millis(1250), Some("kept as /etc/x"));
        assert_eq!(line, "  2/8 remove the multipath map mpath?a … ok, 1.2 s (kept as /etc/x)\n");
        assert_eq!(printable_line("+/dev/sda1\t/\u{1b}[2J"), "+/dev/sda1\t/?[2J");
    }
}
