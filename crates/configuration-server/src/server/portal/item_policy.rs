//! The policy of an item: the one that is chosen here, and the one that is in effect at its master target.

use super::page::Choice;
use super::ui;
use crate::store::items::Item;
use crate::store::policies::Policy;
use control_api::agent::ItemPolicy;

/// What the form of an item says about its policy.
pub(super) struct ItemPolicyLine {
    /// What can be chosen; empty when nothing can.
    pub(super) choices: Vec<Choice>,
    /// What is in effect, when it is not what is chosen.
    pub(super) note: Option<String>,
}

impl ItemPolicyLine {
    pub(super) fn new(item: &Item, policies: &[Policy]) -> ItemPolicyLine {
        let chosen = policies.iter().find(|policy| policy.id == item.policy);
        let effect = item.status.policy;
        let is_in_effect = effect.is_none() || effect == chosen.map(Policy::values);
        let host = &item.host_name;
        let words = effect.map(in_words).unwrap_or_default();
        // The policy of an item that was not taken stands in a file.
        if effect.is_some() && !item.status.taken {
            let note = format!("What mtd.toml says at {host}: {words}. It can be changed there.");
            return ItemPolicyLine { choices: Vec::new(), note: Some(note) };
        }
        let own = effect.is_some() && !item.follows_policy;
        let note = match (own, is_in_effect) {
            (true, _) => Some(format!("{host} protects it by what it was taken with: {words}.")),
            (false, false) => Some(format!("Not in effect yet: {host} protects it by {words}.")),
            (false, true) => None,
        };
        let selected = if own { String::new() } else { item.policy.to_string() };
        let own = own.then(|| Choice::new("", "As it was taken", &selected));
        let others = policies.iter().map(|policy| Choice::new(policy.id, policy.name.clone(), &selected));
        ItemPolicyLine { choices: own.into_iter().chain(others).collect(), note }
    }
}

fn in_words(policy: ItemPolicy) -> String {
    let consistent = match policy.application_consistent_every_seconds {
        Some(every) => format!("an application-consistent point every {}", ui::seconds(every)),
        None => "no application-consistent points".to_owned(),
    };
    format!(
        "a window of {}, an RPO of at most {} and {consistent}",
        ui::seconds(policy.window_seconds),
        ui::seconds(policy.rpo_threshold_seconds)
    )
}
