//! Reading JSON as a sender in JavaScript writes it.

use serde::de::DeserializeOwned;

/// Reads JSON. A lone surrogate, which JavaScript writes as an escape such as `\ud83d` and no string of Rust's holds, becomes
/// U+FFFD: otherwise one record with a name that was cut in the middle of an emoji would make its whole page unreadable.
///
/// # Errors
/// What [`serde_json::from_slice`] says.
pub fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes).or_else(|error| match without_lone_surrogates(bytes) {
        Some(mended) => serde_json::from_slice(&mended),
        None => Err(error),
    })
}

/// The same text with `\ufffd` in place of each lone surrogate; `None` if there is none.
fn without_lone_surrogates(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut mended = bytes.to_vec();
    let (mut at, mut found) = (0, false);
    while let Some(distance) = mended[at..].iter().position(|byte| *byte == b'\\') {
        at += distance;
        match (escaped_unit(&mended, at), escaped_unit(&mended, at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended[at..at + 6].copy_from_slice(b"\\ufffd");
                found = true;
                at += 6;
            }
            (Some(_), _) => at += 6,
            (None, _) => at = (at + 2).min(mended.len()),
        }
    }
    found.then_some(mended)
}

/// The unit of UTF-16 for which an escape stands that begins here.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_lone_surrogates_are_replaced() {
        for (text, read) in [
            (r#""a\ud83d""#, Some("a\u{FFFD}")),
            (r#""\ude00\ud83d\ude00""#, Some("\u{FFFD}\u{1F600}")),
            (r#""\ud83d\ud83d\ude00""#, Some("\u{FFFD}\u{1F600}")),
            (r#""\ud83d\\ud83d""#, Some("\u{FFFD}\\ud83d")),
            (r#""\\ud83d""#, Some("\\ud83d")),
            (r#""\ud83""#, None),
            (r#""\ud83d"#, None),
        ] {
            assert_eq!(read_json::<String>(text.as_bytes()).ok().as_deref(), read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_units_are_read_as_utf_16_reads_them(units in prop::collection::vec(prop_oneof![
            any::<u16>(), 0xD800..=0xDFFFu16, Just(u16::from(b'\\')), Just(u16::from(b'u')),
        ], 0..20)) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read: String = read_json(format!("\"{escaped}\"").as_bytes()).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }

        #[test]
        fn what_is_no_json_stays_so(bytes in prop::collection::vec(prop_oneof![Just(b'\\'), Just(b'u'), any::<u8>()], 0..40)) {
            if serde_json::from_slice::<serde_json::Value>(&bytes).is_ok() {
                prop_assert!(read_json::<serde_json::Value>(&bytes).is_ok());
            }
            let _ = read_json::<serde_json::Value>(&bytes);
        }
    }
}
