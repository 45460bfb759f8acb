//! What is said of a play: a line an event, or a bar and the refused ones, and a summary.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;

use super::event::Event;
use super::post::Answer;

/// With more than these, people want a bar.
const MANY: usize = 200;
/// The most characters of a text that somebody else chose.
const MAX_TEXT: usize = 120;
/// Places wider than this do not widen the column for all.
const MAX_PLACE: usize = 60;

/// What became of a posting, as it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server has it. It may have had it before this play: its answer does not tell.
    Accepted,
    /// The server has it, and had it before, since it took it earlier in this play.
    Duplicate,
    /// See [`Answer::Refused`].
    Refused(StatusCode, Option<String>),
    /// See [`Answer::Silence`].
    Silence(String),
}

impl Outcome {
    /// An answer about an event, which the server took before in this play or not.
    pub(super) fn of(answer: Answer, taken_before: bool) -> Self {
        match answer {
            Answer::Accepted if taken_before => Self::Duplicate,
            Answer::Accepted => Self::Accepted,
            Answer::Refused(status, message) => Self::Refused(status, message),
            Answer::Silence(cause) => Self::Silence(cause),
        }
    }

    fn is_good(&self) -> bool {
        matches!(self, Self::Accepted | Self::Duplicate)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Duplicate => f.write_str("duplicate"),
            Self::Refused(status, message) => {
                let reason = message.as_deref().or(status.canonical_reason()).unwrap_or("no reason given");
                write!(f, "refused: {} {}", status.as_u16(), short(reason))
            }
            Self::Silence(cause) => write!(f, "refused: no answer ({})", short(cause)),
        }
    }
}

/// Text that somebody else chose, on one line and without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// [`plain`], and not long.
fn short(text: &str) -> String {
    let mut short: String = plain(text).chars().take(MAX_TEXT).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        short.push('…');
    }
    short
}

/// Writes a line. Whoever stopped reading misses it; the play goes on.
pub(super) fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The columns in which all events of a play are shown.
pub(super) struct Columns {
    total: usize,
    place: usize,
}

impl Columns {
    /// Columns for `total` lines about `events`.
    pub(super) fn new(total: usize, events: &[Event]) -> Self {
        let widths = events.iter().map(|event| plain(&event.origin.to_string()).chars().count());
        Self { total, place: widths.filter(|width| *width <= MAX_PLACE).max().unwrap_or(0) }
    }

    /// The line about the event that is the `number`th, from 1.
    pub(super) fn line(&self, number: usize, event: &Event, what: impl fmt::Display) -> String {
        let (total, place) = (self.total, self.place);
        let [kind, id] =
            [&event.event_type, &event.id].map(|text| if text.is_empty() { "-".into() } else { short(text) });
        let origin = plain(&event.origin.to_string());
        let width = total.to_string().len();
        format!("{number:>width$}/{total}  {kind:<24}  {id:<32}  {origin:<place$}  {what}")
    }
}

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// See [`Outcome::Accepted`].
    pub(super) accepted: usize,
    /// See [`Outcome::Duplicate`].
    pub(super) duplicates: usize,
    /// All others.
    pub(super) refused: usize,
    /// Of the refused: those with 401.
    pub(super) unsigned: usize,
}

impl Tally {
    /// Counts an outcome.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Duplicate => self.duplicates += 1,
            Outcome::Refused(..) | Outcome::Silence(_) => self.refused += 1,
        }
        if matches!(outcome, Outcome::Refused(StatusCode::UNAUTHORIZED, _)) {
            self.unsigned += 1;
        }
    }

    /// The last words, of a play that took so long.
    pub(super) fn summary(&self, elapsed: Duration) -> String {
        let Self { accepted, duplicates, refused, unsigned } = self;
        let (total, seconds) = (accepted + duplicates + refused, elapsed.as_secs_f64());
        let rate = total as f64 / seconds.max(0.001);
        let copies = if *duplicates > 0 { format!(", {duplicates} duplicate(s)") } else { String::new() };
        let mut summary =
            format!("{total} posted in {seconds:.2} s ({rate:.0}/s): {accepted} accepted{copies}, {refused} refused");
        if *unsigned > 0 {
            summary += "\n401: is the secret one of the server's WORKOS_WEBHOOK_SECRET, and do the two clocks agree?";
        }
        summary
    }
}

/// Tells of a play while it goes on.
pub(super) struct Progress {
    columns: Columns,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar for many events on a terminal, otherwise lines.
    pub(super) fn new(columns: Columns) -> Self {
        let is_watched = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = (columns.total > MANY && is_watched).then(|| {
            let bar = ProgressBar::new(columns.total as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left") {
                bar.set_style(style);
            }
            bar
        });
        Self { columns, bar }
    }

    /// Tells of the event that was the `number`th.
    pub(super) fn tell(&self, number: usize, event: &Event, outcome: &Outcome) {
        let Some(bar) = &self.bar else { return say(self.columns.line(number, event, outcome)) };
        if !outcome.is_good() {
            bar.suspend(|| say(self.columns.line(number, event, outcome)));
        }
        bar.inc(1);
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Origin;
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_the_event_is_called() {
        let origin = Origin { name: "a.jsonl".into(), line: Some(3), file: None };
        let event = Event { id: "x\n\u{1b}[2J".to_owned(), event_type: String::new(), body: Vec::new(), origin };
        let refused = Outcome::Refused(StatusCode::UNAUTHORIZED, Some("a\r\n".to_owned() + &"b".repeat(500)));
        let line = Columns::new(12, std::slice::from_ref(&event)).line(3, &event, &refused);
        assert!(
            line.starts_with(" 3/12  -  ") && line.contains("  a.jsonl:3  refused: 401 a\u{FFFD}\u{FFFD}b"),
            "{line}"
        );
        assert!(!line.chars().any(char::is_control) && line.chars().count() < 250, "{line:?}");
    }

    #[test]
    fn the_summary_counts_each_outcome_once() {
        let mut tally = Tally::default();
        let refused = |status| Outcome::Refused(status, None);
        tally.add(&Outcome::of(Answer::Accepted, false));
        tally.add(&Outcome::of(Answer::Accepted, true));
        assert_eq!(
            tally.summary(Duration::from_millis(500)),
            "2 posted in 0.50 s (4/s): 1 accepted, 1 duplicate(s), 0 refused"
        );
        tally.add(&refused(StatusCode::UNAUTHORIZED));
        tally.add(&refused(StatusCode::PAYLOAD_TOO_LARGE));
        tally.add(&Outcome::Silence("reset".to_owned()));
        let summary = tally.summary(Duration::ZERO);
        assert!(summary.contains("1 accepted, 1 duplicate(s), 3 refused") && summary.contains("WORKOS_WEBHOOK_SECRET"));
    }
}
