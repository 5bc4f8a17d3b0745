//! The recovery points of an item on a line that ends now.

use super::ui;
use askama::Template;
use askama::filters::HtmlSafe;
use control_api::Point;
use control_api::time::{SECOND, Time};

/// The shortest time that is drawn.
const SHORTEST: u64 = 3600 * SECOND;

/// The line.
#[derive(Template)]
#[template(path = "timeline.html")]
pub(super) struct Timeline {
    description: String,
    from: String,
    /// Where recovery points begin, and how far they reach, in percent.
    window: Option<(f64, f64)>,
    marks: Vec<Mark>,
}

impl HtmlSafe for Timeline {}

struct Mark {
    x: f64,
    consistent: bool,
}

impl Timeline {
    /// Draws the recovery points between `oldest` and `newest`, of which `bookmarks` have a name.
    pub(super) fn new(
        oldest: Option<&Point>,
        newest: Option<&Point>,
        bookmarks: &[Point],
        window_wanted: u64,
        now: Time,
    ) -> Timeline {
        let reach = oldest.map_or(0, |point| now.saturating_sub(point.source_time));
        let span = reach.max(window_wanted).max(SHORTEST);
        let x = |time: Time| {
            let age = now.saturating_sub(time).min(span);
            ((1.0 - age as f64 / span as f64) * 10_000.0).round() / 100.0
        };
        let window = oldest.zip(newest).map(|(oldest, newest)| {
            let (from, to) = (x(oldest.source_time), x(newest.source_time));
            (from, (to - from).max(0.2))
        });
        let consistent =
            |point: &Point| point.bookmark.as_ref().is_some_and(|mark| mark.application_consistent);
        let mark = |point: &Point| Mark { x: x(point.source_time), consistent: consistent(point) };
        let told = match oldest.zip(newest) {
            None => "There are no recovery points yet".to_owned(),
            Some((oldest, newest)) => format!(
                "Recovery points from {} to {}, {} of them bookmarks, {} application-consistent",
                ui::utc(oldest.source_time),
                ui::utc(newest.source_time),
                bookmarks.len(),
                bookmarks.iter().filter(|point| consistent(point)).count()
            ),
        };
        Timeline {
            description: told,
            from: format!("{} ago", ui::seconds(span / SECOND)),
            window,
            marks: bookmarks.iter().map(mark).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::Bookmark;

    fn point(hours_ago: u64, application_consistent: Option<bool>) -> Point {
        let bookmark = application_consistent.map(|application_consistent| Bookmark {
            name: "a".into(),
            application_consistent,
            group: None,
        });
        let time = NOW - hours_ago * 3600 * SECOND;
        Point { number: 1, source_time: time, receive_time: time, bookmark, tested: None, journal_bytes: 0 }
    }

    const NOW: Time = 1_790_000_000 * SECOND;

    #[test]
    fn points_stand_where_they_belong() {
        let marks = [point(6, Some(true)), point(12, Some(false))];
        let (oldest, newest) = (point(18, None), point(0, None));
        let line = Timeline::new(Some(&oldest), Some(&newest), &marks, 24 * 3600 * SECOND, NOW);
        assert_eq!(line.window, Some((25.0, 75.0)));
        let drawn: Vec<(f64, bool)> = line.marks.iter().map(|mark| (mark.x, mark.consistent)).collect();
        assert_eq!(drawn, [(75.0, true), (50.0, false)]);
        assert!(
            line.description.ends_with("2 of them bookmarks, 1 application-consistent"),
            "{}",
            line.description
        );
        let html = line.to_string();
        assert!(html.contains(r#"<rect class="window" x="25%" y="18" width="75%""#), "{html}");
    }

    #[test]
    fn nothing_is_drawn_outside() {
        let line = Timeline::new(None, None, &[point(500, None)], 0, NOW);
        assert_eq!((line.window.is_none(), line.marks[0].x, line.from.as_str()), (true, 0.0, "1 h ago"));
    }
}
