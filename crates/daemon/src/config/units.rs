//! Durations, sizes and near misses, as people write them.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400), ("weeks", 604_800)];

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// `24 h`, `15 min`, `90 s`, `7 d`; the blank is optional.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    quantity(text, &DURATIONS).map(Duration::from_secs)
}

/// `256 MiB`, `10 GiB`; the blank is optional.
pub(crate) fn size(text: &str) -> Option<u64> {
    quantity(text, &SIZES)
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The candidate that a mistyped name most likely means, if one is near enough.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance_to = |candidate: &&str| edit_distance(&name, &candidate.to_lowercase());
    let (distance, best) = candidates.iter().map(|c| (distance_to(c), *c)).min_by_key(|(d, _)| *d)?;
    (distance <= (best.len() / 3).max(2)).then_some(best)
}

/// Insertions, deletions and replacements that turn one into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_need_a_number_and_a_unit() {
        assert_eq!(duration("24 h"), Some(Duration::from_secs(86_400)));
        assert_eq!(duration("15min"), Some(Duration::from_secs(900)));
        assert_eq!(size("256 MiB"), Some(256 << 20));
        for text in ["", "h", "24", "24 hours", "-1 h", "1.5 h", "99999999999999999999 s", "24 h "] {
            assert_eq!(duration(text), None, "{text:?}");
        }
        assert_eq!(size("18446744073709551615 KiB"), None);
    }

    #[test]
    fn a_near_miss_is_named_and_a_far_one_is_not() {
        let keys = ["listen", "socket", "retention", "policy"];
        assert_eq!(nearest("lisetn", &keys), Some("listen"));
        assert_eq!(nearest("Socket", &keys), Some("socket"));
        assert_eq!(nearest("retention_folder", &keys), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn edit_distance_counts_single_changes() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }
}
