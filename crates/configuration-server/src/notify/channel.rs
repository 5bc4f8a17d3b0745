//! What one channel does: look what is due, send it, write down what came of it.

use super::failure::Failure;
use super::{Channel, Message, Sender};
use crate::server::Shared;
use crate::server::changes::Topic;
use crate::store::deliveries::{self, Due, Patience, Position, Work};
use anyhow::Result;
use control_api::time::SECOND;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked for events that commands wrote, which tell nobody.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pause after something failed that has nothing to do with the channel.
const STORE_PAUSE: Duration = Duration::from_secs(30);
/// Pause after the first attempt in vain, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Messages in quick succession; afterwards there is one in each `REFILL`, with all that came until then.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(60);
const PATIENCE: Patience = Patience { alert: 15 * 60 * SECOND, give_up: 24 * 3600 * SECOND };

/// Serves a channel for as long as it is polled.
pub(super) async fn attend(shared: Arc<Shared>, sender: Sender, channel: Channel) {
    let mut changes = shared.changes.watch();
    let mut allowance = Allowance { left: BURST, since: Instant::now() };
    loop {
        let seen = changes.borrow_and_update()[Topic::Events as usize];
        let next = match round(&shared, &sender, &channel, &mut allowance).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(channel = channel.name(), "events are not delivered: {error:#}");
                Next::Pause(STORE_PAUSE)
            }
        };
        match next {
            Next::More => {}
            Next::Pause(pause) => tokio::time::sleep(pause).await,
            Next::Wait => {
                let changed = changes.wait_for(|counts| counts[Topic::Events as usize] != seen);
                let _ = tokio::time::timeout(LOOK_EVERY, changed).await;
            }
        }
    }
}

/// What comes after a round.
enum Next {
    More,
    Pause(Duration),
    Wait,
}

async fn round(
    shared: &Shared,
    sender: &Sender,
    channel: &Channel,
    allowance: &mut Allowance,
) -> Result<Next> {
    let Some((position, _)) = look(shared, channel).await? else { return Ok(Next::Wait) };
    if position.sending.is_none() {
        // What comes in the meantime goes with it.
        tokio::time::sleep(channel.gathers().max(allowance.wait())).await;
    }
    let Some((position, due)) = look(shared, channel).await? else { return Ok(Next::Wait) };
    let (wanted, last, now) = (channel.wanted(), due.last().map_or(0, |due| due.event.id), shared.now());
    let begun = shared.store.with(move |connection| {
        let transaction = connection.transaction()?;
        deliveries::begin(&transaction, &wanted, &position, last, now)?;
        Ok(transaction.commit()?)
    });
    begun.await?;
    let message = Message::new(sender, due);
    allowance.take();
    match channel.deliver(&message, shared.now()).await {
        Ok(refused) => arrived(shared, channel, last, refused).await,
        Err(failure) => failed(shared, channel, message.due, failure).await,
    }
}

/// What is due, and where the channel stands.
async fn look(shared: &Shared, channel: &Channel) -> Result<Option<(Position, Vec<Due>)>> {
    let (wanted, most) = (channel.wanted(), channel.most());
    let (work, passed) =
        shared.store.read(move |connection| Ok(deliveries::look(connection, &wanted, most)?)).await?;
    if let Some(passed) = passed {
        let name = channel.name().to_owned();
        shared.store.note(move |connection| Ok(deliveries::pass(connection, &name, passed)?)).await?;
    }
    Ok(match work {
        Work::Nothing => None,
        Work::Deliver { position, due } => Some((position, due)),
    })
}

async fn arrived(shared: &Shared, channel: &Channel, last: i64, refused: Option<Failure>) -> Result<Next> {
    match &refused {
        None => tracing::debug!(channel = channel.name(), last, "delivered"),
        Some(failure) => tracing::warn!(channel = channel.name(), last, "delivered in part: {failure}"),
    }
    let (wanted, now) = (channel.wanted(), shared.now());
    let written = shared.store.with(move |connection| {
        let transaction = connection.transaction()?;
        let reason = refused.as_ref().map(|failure| (&*failure.why, &*failure.next));
        let told = deliveries::arrived(&transaction, &wanted, last, reason, now)?;
        transaction.commit()?;
        Ok(told)
    });
    if written.await? {
        shared.changes.tell(Topic::Events);
    }
    Ok(Next::More)
}

async fn failed(shared: &Shared, channel: &Channel, due: Vec<Due>, failure: Failure) -> Result<Next> {
    tracing::warn!(channel = channel.name(), events = due.len(), "not delivered: {failure}");
    let (wanted, now) = (channel.wanted(), shared.now());
    let written = shared.store.with(move |connection| {
        let transaction = connection.transaction()?;
        let reason = (&*failure.why, &*failure.next);
        let outcome = deliveries::failed(&transaction, &wanted, &due, reason, PATIENCE, now)?;
        transaction.commit()?;
        Ok(outcome)
    });
    let (failures, told) = written.await?;
    if told {
        shared.changes.tell(Topic::Events);
    }
    Ok(Next::Pause(pause(failures)))
}

/// The pause after so many attempts in vain.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// How many messages may be sent at once.
struct Allowance {
    left: u32,
    /// Since when the next one grows.
    since: Instant,
}

impl Allowance {
    fn grow(&mut self) {
        let grown = self.since.elapsed().as_secs() / REFILL.as_secs();
        let missing = BURST - self.left;
        match u32::try_from(grown) {
            Ok(grown) if grown < missing => {
                self.left += grown;
                self.since += REFILL * grown;
            }
            _ => {
                self.left = BURST;
                self.since = Instant::now();
            }
        }
    }

    /// How long until there may be one.
    fn wait(&mut self) -> Duration {
        self.grow();
        match self.left {
            0 => REFILL.saturating_sub(self.since.elapsed()),
            _ => Duration::ZERO,
        }
    }

    fn take(&mut self) {
        self.grow();
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_minutes() {
        let pauses = [1, 2, 3, 9, 10, u32::MAX].map(|failures| pause(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 256, 300, 300]);
        assert_eq!(pause(0).as_secs(), 1);
    }

    #[test]
    fn a_burst_is_followed_by_one_message_a_minute() {
        let start = Instant::now();
        let mut allowance = Allowance { left: BURST, since: start };
        for _ in 0..BURST {
            assert_eq!(allowance.wait(), Duration::ZERO);
            allowance.take();
        }
        let wait = allowance.wait();
        assert!(wait > Duration::from_secs(50) && wait <= REFILL, "{wait:?}");
        allowance.since -= REFILL;
        assert_eq!(allowance.wait(), Duration::ZERO);
        allowance.take();
        assert!(allowance.wait() > Duration::from_secs(50));
        allowance.since -= REFILL * 100;
        allowance.grow();
        assert_eq!(allowance.left, BURST);
    }
}
