//! Durations and ranges of them as people write them: `250ms`, `50ms..2s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::random::SplitMix64;

const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A range of durations, both ends included. Written `50ms..2s`, or `2s` where both ends are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationRange {
    min: Duration,
    max: Duration,
}

/// A text is no range of durations.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DurationRangeError {
    /// One end is no duration.
    #[error("'{text}' is no duration such as 250ms or 5s")]
    Duration {
        /// What was read.
        text: String,
        /// Why it is none.
        source: humantime::DurationError,
    },
    /// Longer than anybody waits, and than instants can be reckoned with.
    #[error("'{0}' is longer than a year")]
    TooLong(String),
    /// The upper end is below the lower one.
    #[error("the range ends before it starts")]
    Reversed,
}

impl DurationRange {
    /// From `min` to `max`, both included; `None` if `max` is the smaller one.
    pub fn new(min: Duration, max: Duration) -> Option<Self> {
        (min <= max).then_some(Self { min, max })
    }

    /// The one duration.
    pub fn exactly(duration: Duration) -> Self {
        Self { min: duration, max: duration }
    }

    /// The lower end.
    pub fn min(self) -> Duration {
        self.min
    }

    /// The upper end.
    pub fn max(self) -> Duration {
        self.max
    }

    /// Whether the duration is in it, the upper end excluded.
    pub(crate) fn contains(self, duration: Duration) -> bool {
        (self.min..self.max).contains(&duration)
    }

    /// Any duration of it, in whole microseconds.
    pub(crate) fn draw(self, random: &mut SplitMix64) -> Duration {
        let width = u64::try_from((self.max - self.min).as_micros()).unwrap_or(u64::MAX);
        self.min + Duration::from_micros(random.up_to(width))
    }
}

impl FromStr for DurationRange {
    type Err = DurationRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("..") {
            Some((min, max)) => Self::new(duration(min)?, duration(max)?).ok_or(DurationRangeError::Reversed),
            None => duration(text).map(Self::exactly),
        }
    }
}

impl fmt::Display for DurationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (humantime::format_duration(self.min), humantime::format_duration(self.max));
        if self.min == self.max { write!(f, "{min}") } else { write!(f, "{min}..{max}") }
    }
}

impl Serialize for DurationRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurationRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn duration(text: &str) -> Result<Duration, DurationRangeError> {
    let text = text.trim();
    let duration = humantime::parse_duration(text)
        .map_err(|source| DurationRangeError::Duration { text: text.to_owned(), source })?;
    if duration > LONGEST { Err(DurationRangeError::TooLong(text.to_owned())) } else { Ok(duration) }
}

/// A duration as text, for serde.
pub(crate) mod text {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, duration};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for (text, min, max, written) in
            [("0..2s", 0, 2000, "0s..2s"), ("50ms..1500ms", 50, 1500, "50ms..1s 500ms"), (" 5s ", 5000, 5000, "5s")]
        {
            let range: DurationRange = text.parse().expect("the text is a range");
            assert_eq!((range.min().as_millis(), range.max().as_millis()), (min, max));
            assert_eq!(range.to_string(), written);
            assert_eq!(written.parse(), Ok(range));
        }
        assert_eq!("2s..1s".parse::<DurationRange>(), Err(DurationRangeError::Reversed));
        let long = "2y".parse::<DurationRange>();
        assert_eq!(long, Err(DurationRangeError::TooLong("2y".to_owned())));
        for text in ["", "..", "5", "1s..", "soon"] {
            assert!(matches!(text.parse::<DurationRange>(), Err(DurationRangeError::Duration { .. })), "{text}");
        }
    }
}
