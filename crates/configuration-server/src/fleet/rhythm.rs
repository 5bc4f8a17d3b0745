//! Bookmarks of groups from time to time.
//!
//! A group fails over to bookmarks that its items share, and nobody orders one before a disaster. So they are ordered by
//! itself, as often as the configuration says, of each group whose items are all protected. When the last one was is kept in
//! memory: after a restart one comes early, which does no harm.

use super::overdue::{self, Watched};
use crate::server::Shared;
use crate::server::changes::Topic;
use crate::server::order_group_bookmark;
use crate::store::groups;
use anyhow::Result;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked which groups are due.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How many of these looks there are between two looks for points that are overdue, and how many bookmarks have to be missing.
const LOOKS: u64 = 10;
const MISSED: u32 = 3;

/// When a bookmark of each group was ordered last.
#[derive(Default)]
struct Rhythm(HashMap<i64, Instant>);

impl Rhythm {
    /// Which of these groups are due; the others are forgotten.
    fn due(&mut self, groups: Vec<i64>, now: Instant, every: Duration) -> Vec<i64> {
        self.0.retain(|group, _| groups.contains(group));
        let is_due =
            |group: &i64| self.0.get(group).is_none_or(|last| now.saturating_duration_since(*last) >= every);
        groups.into_iter().filter(is_due).collect()
    }
}

/// Orders them for ever, or not at all.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let every = Duration::from_secs(u64::from(shared.config.group_bookmark_minutes) * 60);
    let (mut rhythm, mut watched) = (Rhythm::default(), Watched::default());
    if every.is_zero() {
        return;
    }
    for looks in 0u64.. {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(error) = look(&shared, &mut rhythm, every).await {
            tracing::error!("cannot order the bookmarks of groups that are due: {error:#}");
        }
        if looks.is_multiple_of(LOOKS)
            && let Err(error) = overdue::look(&shared, &mut watched, every * MISSED).await
        {
            tracing::error!("cannot look for groups whose points are overdue: {error:#}");
        }
    }
}

async fn look(shared: &Arc<Shared>, rhythm: &mut Rhythm, every: Duration) -> Result<()> {
    let whole = shared.store.read(|connection| Ok(groups::whole(connection)?)).await?;
    for group in rhythm.due(whole, Instant::now(), every) {
        let now = shared.now();
        match shared.store.with(move |connection| order_group_bookmark(connection, group, now)).await {
            Ok(true) => {
                rhythm.0.insert(group, Instant::now());
                shared.changes.tell(Topic::Jobs);
            }
            // It is due still.
            Ok(false) => {}
            Err(error) => tracing::error!(group, "cannot order the bookmark of a group: {error:#}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_due_at_once_and_then_from_time_to_time() {
        let (begun, every) = (Instant::now(), Duration::from_secs(900));
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut rhythm = Rhythm::default();
        assert_eq!(rhythm.due(vec![1, 2], begun, every), [1, 2]);
        rhythm.0.insert(1, begun);
        assert_eq!(rhythm.due(vec![1, 2], after(899), every), [2]);
        assert_eq!(rhythm.due(vec![1], after(900), every), [1]);
        // What is not whole meanwhile is due when it is again.
        assert_eq!(rhythm.due(vec![], after(10), every), [0; 0]);
        assert_eq!(rhythm.due(vec![1], after(20), every), [1]);
    }
}
