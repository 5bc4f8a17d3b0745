//! The policy of an item: how far back its recovery points reach, what they may take of the retention volume, and when
//! there is an alert.

use super::reader::{Found, Section};
use super::{DAY, Item, MIB, MINUTE, Result, units};
use std::fmt;
use std::time::Duration;

/// The least that a journal can be limited to.
const LEAST_JOURNAL: u64 = 64 * MIB;

/// What can be said of a part of the volume.
pub(crate) const AMOUNT: &str = "a share of the retention volume such as \"20 %\", or a size of at least 64 MiB such as \
                                 \"40 GiB\" (B, KiB, MiB, GiB, TiB)";

/// How often there should be an application-consistent recovery point, where nothing is said.
const USUAL_FREQUENCY: Duration = Duration::from_secs(3600);

/// How far back recovery points reach, and when to raise the alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The retention window.
    pub window: Duration,
    /// RPO above which there is an alert.
    pub rpo_threshold: Duration,
    /// How often there should be an application-consistent recovery point.
    pub application_consistent: ApplicationConsistent,
    /// What the journal of one item keeps when the retention volume is short of room.
    pub min_journal: Option<Amount>,
    /// What the journal of one item may take.
    pub max_journal: Option<Amount>,
}

/// A part of the retention volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of it.
    Percent(u64),
}

/// How often an item should have an application-consistent recovery point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplicationConsistent {
    /// Nothing was said: so often, once its source has made one. Many sources never do.
    Usual(Duration),
    /// It was said: so often, whether its source has ever made one or not.
    Every(Duration),
    /// There is no alert.
    Never,
}

impl Amount {
    /// How much this is of a volume of `capacity` bytes.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::Percent(percent) => (u128::from(capacity) * u128::from(percent) / 100) as u64,
        }
    }

    /// True when this is more, whatever the volume is.
    fn exceeds(self, other: Amount) -> bool {
        match (self, other) {
            (Amount::Bytes(own), Amount::Bytes(other)) => own > other,
            (Amount::Percent(own), Amount::Percent(other)) => own > other,
            _ => false,
        }
    }

    /// In the form in which it is read, to the byte.
    pub(super) fn written(self) -> String {
        match self {
            Amount::Bytes(bytes) => format!("{bytes} B"),
            Amount::Percent(percent) => format!("{percent} %"),
        }
    }

    /// A share such as `20 %`, or a size such as `40 GiB` of at least 64 MiB.
    pub(crate) fn parse(text: &str) -> Option<Amount> {
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.trim_end().parse().ok()?;
                (1..=100).contains(&percent).then_some(Amount::Percent(percent))
            }
            None => units::size(text).filter(|size| *size >= LEAST_JOURNAL).map(Amount::Bytes),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Bytes(bytes) => disk::Bytes(*bytes).fmt(f),
            Amount::Percent(percent) => write!(f, "{percent} %"),
        }
    }
}

impl Policy {
    /// What holds where the file says nothing.
    pub(super) fn standard() -> Policy {
        Policy {
            window: DAY,
            rpo_threshold: 15 * MINUTE,
            application_consistent: ApplicationConsistent::Usual(USUAL_FREQUENCY),
            min_journal: None,
            max_journal: None,
        }
    }

    /// What a table says, with `defaults` for the rest.
    pub(super) fn read(mut section: Section<'_>, defaults: &Policy) -> Result<Policy> {
        let min = amount(&mut section, "min_journal")?;
        let max = amount(&mut section, "max_journal")?;
        let policy = Policy {
            window: section.duration_or("window", defaults.window, MINUTE..=365 * DAY)?,
            rpo_threshold: section.duration_or(
                "rpo_threshold",
                defaults.rpo_threshold,
                Duration::from_secs(1)..=7 * DAY,
            )?,
            application_consistent: application_consistent(&mut section)?
                .unwrap_or(defaults.application_consistent),
            min_journal: min.as_ref().map(|found| found.value).or(defaults.min_journal),
            max_journal: max.as_ref().map(|found| found.value).or(defaults.max_journal),
        };
        if let (Some(least), Some(most)) = (policy.min_journal, policy.max_journal)
            && least.exceeds(most)
        {
            let message = format!(
                "min_journal ({least}) is more than max_journal ({most}): make it smaller, or max_journal larger"
            );
            return Err(match max.or(min) {
                Some(found) => section.error_at(&found.at, message),
                None => section.error(message),
            });
        }
        section.finish()?;
        Ok(policy)
    }
}

fn amount(section: &mut Section<'_>, key: &'static str) -> Result<Option<Found<Amount>>> {
    section.located(key, AMOUNT, Amount::parse)
}

fn application_consistent(section: &mut Section<'_>) -> Result<Option<ApplicationConsistent>> {
    let expected = "a duration between 1 min and 7 d, such as \"60 min\" (s, min, h, d, weeks), or \"never\"";
    section.parsed("application_consistent_every", expected, |text| match text {
        "never" => Some(ApplicationConsistent::Never),
        text => units::duration(text)
            .filter(|every| (MINUTE..=7 * DAY).contains(every))
            .map(ApplicationConsistent::Every),
    })
}

/// Refuses to promise more of the volume than there is. Shares and sizes are added up only where the volume is known.
pub(super) fn check_minima(root: &Section<'_>, items: &[Item]) -> Result<()> {
    let shares = items.iter().filter_map(|item| match item.policy.min_journal {
        Some(Amount::Percent(percent)) => Some((item, percent)),
        _ => None,
    });
    let sum: u64 = shares.clone().map(|(_, percent)| percent).sum();
    if sum <= 100 {
        return Ok(());
    }
    let each: Vec<String> = shares.map(|(item, percent)| format!("{} {percent} %", item.name)).collect();
    Err(root.error(format!(
        "min_journal of all items comes to {sum} % of the retention volume ({}): promise at most 100 %, and better \
         less, since no item can have more than the rest",
        each.join(", ")
    )))
}
