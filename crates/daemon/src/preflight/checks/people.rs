//! What a virtual machine cannot see of itself.

use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use control_api::time::{self, SECOND};

pub(super) static CHECKS: [Check; 2] = [
    Check {
        id: "snapshots",
        group: Group::People,
        severity: Severity::Failure,
        title: "No snapshots",
        needed: "this virtual machine has no snapshot",
        why: "With a snapshot on the master target VMware cannot detach the replicated disks cleanly: in the old \
              product reprotect and failback failed. A machine cannot see its own snapshots, so somebody has to look \
              in vCenter and say so. An answer holds for 30 days.",
        look: |machine| attested(machine, "snapshots"),
        mend: None,
    },
    Check {
        id: "storage-vmotion",
        group: Group::People,
        severity: Severity::Failure,
        title: "No storage vMotion",
        needed: "this machine's disks are not moved by storage vMotion after reprotect (exclude it from storage DRS)",
        why: "After a move the disks are not where failback looks for them: in the old product detaching failed, and \
              disks were not found. A machine cannot see such a move, so somebody has to see to it in vCenter and say \
              so. An answer holds for 30 days.",
        look: |machine| attested(machine, "storage-vmotion"),
        mend: None,
    },
];

fn attested(machine: &Machine, id: &str) -> Look {
    let answer = format!("look in vCenter, then: mtctl check --attest {id} --by NAME");
    let attestations = machine.attestations()?;
    let Some(attestation) = attestations.of(id) else {
        return Err(Unknown::until(
            "this cannot be seen from inside the machine, and nobody has answered",
            answer,
        ));
    };
    let who = format!("{} on {}", attestation.by, time::format(attestation.time.saturating_mul(SECOND)));
    match attestation.days_left(machine.options.now) {
        Some(days) => Finding::good(format!("said by {who}, holds for {days} more days")),
        None => Err(Unknown::until(
            format!("the answer of {who} is too old, or its time is in the future"),
            answer,
        )),
    }
}
