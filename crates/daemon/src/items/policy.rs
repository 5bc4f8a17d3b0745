//! Another policy for an item.
//!
//! An item that was taken has a policy of its own, which people change by `mtctl policy`. When the configuration server
//! gives it one, in the answer to a heartbeat, it follows that, and people are sent there: else what they set would be
//! undone half a minute later. Its part of the retention volume no server gives: that is set by `mtctl policy` always. What is given is not kept: each answer has it again, and the item keeps what it followed
//! last.

use super::blocking;
use super::files::Phase;
use crate::config::{self, AMOUNT, Amount, ApplicationConsistent, Item, Policy};
use crate::master_target::MasterTarget;
use control_api::Failure;
use control_api::agent::{GivenPolicy, ItemPolicy};
use control_api::time::{SECOND, format_duration};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What is to be different; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PolicyChange {
    pub(crate) window_seconds: Option<u64>,
    pub(crate) rpo_threshold_seconds: Option<u64>,
    /// 0 for never.
    pub(crate) application_consistent_every_seconds: Option<u64>,
    pub(crate) min_journal: Option<Portion>,
    pub(crate) max_journal: Option<Portion>,
}

/// What is to be an item's part of the retention volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Portion {
    /// What holds for all items that say nothing.
    Standard,
    /// So much.
    Of(Amount),
}

impl Portion {
    /// What somebody typed for an item: an amount, or `standard`.
    pub(crate) fn parse(item: &str, text: &str) -> Result<Portion, Failure> {
        if text == "standard" {
            return Ok(Portion::Standard);
        }
        Amount::parse(text).map(Portion::Of).ok_or_else(|| {
            let why = format!("{text:?} is no part of the retention volume");
            Failure::new(item, "its policy cannot be changed", why, format!("give {AMOUNT}, or standard"))
        })
    }

    fn amount(self, standard: Option<Amount>) -> Option<Amount> {
        match self {
            Portion::Standard => standard,
            Portion::Of(amount) => Some(amount),
        }
    }
}

impl From<ItemPolicy> for PolicyChange {
    fn from(policy: ItemPolicy) -> PolicyChange {
        PolicyChange {
            window_seconds: Some(policy.window_seconds),
            rpo_threshold_seconds: Some(policy.rpo_threshold_seconds),
            application_consistent_every_seconds: Some(
                policy.application_consistent_every_seconds.unwrap_or(0),
            ),
            // No server gives these: how large the volume is, only its machine knows.
            min_journal: None,
            max_journal: None,
        }
    }
}

impl PolicyChange {
    /// Whether it is about what a configuration server gives.
    fn is_of_a_servers(self) -> bool {
        self.window_seconds.is_some()
            || self.rpo_threshold_seconds.is_some()
            || self.application_consistent_every_seconds.is_some()
    }

    fn apply(self, policy: &Policy, standard: &Policy) -> Policy {
        let duration = |seconds: Option<u64>, was| seconds.map_or(was, Duration::from_secs);
        let application_consistent = match self.application_consistent_every_seconds {
            None => policy.application_consistent,
            Some(0) => ApplicationConsistent::Never,
            Some(seconds) => ApplicationConsistent::Every(Duration::from_secs(seconds)),
        };
        Policy {
            window: duration(self.window_seconds, policy.window),
            rpo_threshold: duration(self.rpo_threshold_seconds, policy.rpo_threshold),
            application_consistent,
            min_journal: self
                .min_journal
                .map_or(policy.min_journal, |portion| portion.amount(standard.min_journal)),
            max_journal: self
                .max_journal
                .map_or(policy.max_journal, |portion| portion.amount(standard.max_journal)),
        }
    }
}

impl MasterTarget {
    /// Gives an item that was taken another policy, at once; durable when this returns. Refused for one that has its
    /// policy from the configuration server.
    pub(crate) async fn set_policy(
        self: &Arc<Self>,
        name: &str,
        change: PolicyChange,
    ) -> Result<String, Failure> {
        let is_taken = self.items.get(name)?.config().taken;
        // Whoever gave up the registration follows nobody any more.
        let is_given = self.hub.authority().is_some() && self.items.given().contains_key(name);
        if is_taken && is_given && change.is_of_a_servers() {
            return Err(Failure::new(
                name,
                "its policy cannot be changed here",
                "the configuration server gives it its policy",
                "assign it another policy in the portal, or change that policy there",
            ));
        }
        let _changing = self.items.changing.lock().await;
        self.change_policy(name, change).await
    }

    /// Has the items follow what the configuration server gives them. While something is taken, let go of or changed, it
    /// is left to the next answer.
    pub(crate) async fn follow(self: &Arc<Self>, given: Vec<GivenPolicy>) {
        let given: Given = given.into_iter().map(|given| (given.item, given.policy)).collect();
        *self.items.given() = given.clone();
        let Ok(_changing) = self.items.changing.try_lock() else { return };
        for item in self.items.all() {
            let config = item.config();
            let Some(policy) = given.get(&config.name).filter(|_| config.taken) else { continue };
            if *policy == told(&config.policy) {
                continue;
            }
            if let Err(failure) = self.change_policy(&config.name, PolicyChange::from(*policy)).await {
                tracing::error!("the policy of the configuration server is not followed: {failure}");
            }
        }
    }

    /// The caller holds [`super::Items::changing`].
    async fn change_policy(self: &Arc<Self>, name: &str, change: PolicyChange) -> Result<String, Failure> {
        let handle = self.items.get(name)?;
        let there = handle.config();
        if !there.taken {
            return Err(Failure::new(
                name,
                "its policy cannot be changed",
                format!("it stands in {}", self.items.configuration.display()),
                "change its policy there, and restart mtd",
            ));
        }
        let standard = self.items.standard.clone();
        let item = Item { policy: change.apply(&there.policy, &standard), ..Item::clone(&there) };
        let mut others = self.items.configs();
        others.retain(|other| other.name != name);
        let text = config::taken::compose(&item, &standard);
        config::taken::parse("the policy", &text, &standard, &others).map_err(|error| {
            Failure::new(name, "its policy cannot be changed", error.message, "give another value")
        })?;
        let (files, written) = (self.items.files.clone(), item.clone());
        blocking(name, move || files.write(&written, &standard, Phase::There)).await?;
        let outcome = format!("{name} is protected by {}", in_words(&item.policy));
        handle.configure(item);
        self.hub.hurry();
        tracing::info!(item = name, "{outcome}");
        Ok(outcome)
    }
}

/// Policies that the configuration server gives, by the name of their item.
pub(super) type Given = HashMap<String, ItemPolicy>;

/// A policy as it is told.
pub(crate) fn told(policy: &Policy) -> ItemPolicy {
    ItemPolicy {
        window_seconds: policy.window.as_secs(),
        rpo_threshold_seconds: policy.rpo_threshold.as_secs(),
        application_consistent_every_seconds: match policy.application_consistent {
            ApplicationConsistent::Never => None,
            ApplicationConsistent::Usual(every) | ApplicationConsistent::Every(every) => {
                Some(every.as_secs())
            }
        },
    }
}

fn in_words(policy: &Policy) -> String {
    let shown = |duration: Duration| format_duration(duration.as_secs().saturating_mul(SECOND));
    let every = match policy.application_consistent {
        ApplicationConsistent::Never => "no application-consistent points".to_owned(),
        ApplicationConsistent::Usual(every) | ApplicationConsistent::Every(every) => {
            format!("an application-consistent point every {}", shown(every))
        }
    };
    let parts = [("at least", policy.min_journal), ("at most", policy.max_journal)];
    let parts = parts.into_iter().filter_map(|(what, amount)| Some(format!("{what} {}", amount?)));
    let parts: Vec<String> = parts.collect();
    let volume = match parts.is_empty() {
        true => String::new(),
        false => format!("; its journal has {} of the retention volume", parts.join(" and ")),
    };
    format!(
        "a window of {}, an RPO of at most {} and {every}{volume}",
        shown(policy.window),
        shown(policy.rpo_threshold)
    )
}
