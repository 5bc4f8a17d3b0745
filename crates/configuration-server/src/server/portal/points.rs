//! Recovery points, as pages show them and as forms choose one of them.

use super::fields::Fields;
use super::ui::{self, Ago, Badge, Moment, Tone};
use control_api::time::{self, SECOND, Time};
use control_api::{ApiError, ErrorCode, ItemStatus, Point, PointSelector};

/// A bookmark.
pub(super) struct PointLine {
    pub(super) name: String,
    pub(super) kind: Badge,
    pub(super) time: Moment,
    pub(super) utc: String,
    pub(super) ago: Ago,
    pub(super) tested: Option<Ago>,
    pub(super) number: u64,
}

/// From when to when there are recovery points.
pub(super) fn range(status: &ItemStatus) -> String {
    match (&status.oldest_point, &status.newest_point) {
        (Some(oldest), Some(newest)) => {
            format!("{} to {}", ui::utc(oldest.source_time), ui::utc(newest.source_time))
        }
        _ => "none yet".into(),
    }
}

/// A moment as people would type it.
pub(super) fn whole_second(now: Time) -> String {
    time::format(now / SECOND * SECOND).replace(".000Z", "Z")
}

/// The bookmarks among points.
pub(super) fn lines_of(points: &[Point], now: Time) -> Vec<PointLine> {
    points.iter().filter_map(|point| line(point, now)).collect()
}

fn line(point: &Point, now: Time) -> Option<PointLine> {
    let bookmark = point.bookmark.as_ref()?;
    Some(PointLine {
        name: bookmark.name.clone(),
        kind: match bookmark.application_consistent {
            true => Badge::new(Tone::Ok, "application-consistent"),
            false => Badge::new(Tone::Idle, "crash-consistent"),
        },
        time: Moment(point.source_time),
        utc: ui::utc(point.source_time),
        ago: Ago { time: point.source_time, now },
        tested: point.tested.map(|time| Ago { time, now }),
        number: point.number,
    })
}

/// The recovery point that a form chooses.
pub(super) fn chosen(form: &Fields) -> Result<PointSelector, ApiError> {
    let refused = |why: String, next: &str| {
        ApiError::new(ErrorCode::BadRequest, "the recovery point", "none is chosen", why, next)
    };
    match form.get("point") {
        "latest" => Ok(PointSelector::Latest),
        "latest-app-consistent" => Ok(PointSelector::LatestApplicationConsistent),
        "bookmark" => form
            .number("bookmark")
            .map(PointSelector::Number)
            .ok_or_else(|| refused("the form names no bookmark".into(), "go back and choose one")),
        "time" => control_api::time::parse(form.get("time")).map(PointSelector::Time).ok_or_else(|| {
            let given: String = form.get("time").chars().take(40).collect();
            let next = "go back and give one such as 2026-11-26T01:30:00Z";
            refused(format!("{given:?} is no moment"), next)
        }),
        _ => Err(refused("the form names none".into(), "go back and choose one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_chooses_a_recovery_point() {
        let chosen = |form: &str| super::chosen(&Fields::parse(form)).map_err(|refused| refused.to_string());
        assert_eq!(chosen("point=latest&bookmark=7"), Ok(PointSelector::Latest));
        assert_eq!(chosen("point=bookmark&bookmark=7"), Ok(PointSelector::Number(7)));
        assert_eq!(
            chosen("point=time&time=1970-01-01T00%3A00%3A01Z"),
            Ok(PointSelector::Time(1_000_000_000))
        );
        assert!(chosen("point=time&time=noon").unwrap_err().contains("\"noon\" is no moment"));
        assert!(chosen("point=bookmark").is_err() && chosen("").is_err());
    }
}
