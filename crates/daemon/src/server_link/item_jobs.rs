//! Jobs that take an item, or let go of it.
//!
//! A crash leaves an item wholly there or wholly not. So after one it is looked which: an item that is there as it was
//! ordered was taken by the job itself, and one that is not there was let go of.

use super::Teller;
use crate::items::Steps;
use control_api::agent::{ItemOrder, TargetOrder};
use registration::link::{End, Job};
use tokio::sync::mpsc;

pub(super) fn protect(teller: &Teller, job: &Job, order: &ItemOrder) -> Result<String, End> {
    let target = &teller.target;
    let makes_disks = order.disks.iter().any(|disk| matches!(disk.target, TargetOrder::New { .. }));
    match makes_disks {
        true => job.plan(&[Steps::CHECK, Steps::MAKE, Steps::OPEN]),
        false => job.plan(&[Steps::CHECK, Steps::OPEN]),
    }
    job.begin(Steps::CHECK);
    if job.is_continued() && target.has_taken(order) {
        job.detail("it was taken before the master target was restarted");
        let item = target.item(&order.name)?;
        teller.wait_until_started(job, &item)?;
        return Ok(format!("{} is taken: {}", order.name, item.snapshot().state()));
    }
    teller.wait(job, target.check_item(order))??;
    if !job.commit() {
        return Err(End::Cancelled);
    }
    let (step, mut begun) = mpsc::channel(4);
    let taking = async {
        let taking = target.take(order.clone(), step);
        tokio::pin!(taking);
        loop {
            tokio::select! {
                biased;
                Some(step) = begun.recv() => job.begin(step),
                taken = &mut taking => return taken,
            }
        }
    };
    Ok(teller.wait(job, taking)??)
}

pub(super) fn release(teller: &Teller, job: &Job, item: &str) -> Result<String, End> {
    job.begin("Let go of the item");
    if job.is_continued() && teller.target.has_left(item) {
        return Ok(format!("{item} is released: its disks are as they are, its recovery points are gone"));
    }
    if !job.commit() {
        return Err(End::Cancelled);
    }
    Ok(teller.wait(job, teller.target.release(item))??)
}
