//! Whatever is signed is accepted, and nothing else is.

use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::webhook::signature::{SignatureError, SignatureHeader, sign};

const TOLERANCE: Duration = Duration::from_secs(180);

fn at(milliseconds: i64) -> Timestamp {
    DateTime::from_timestamp_millis(milliseconds).unwrap()
}

/// Up to the end of the year 9999, in milliseconds.
fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![0..253_402_300_800_000_i64, 1_700_000_000_000..1_900_000_000_000_i64]
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "\\{\"id\":\"[a-z_0-9]{1,20}\",\"event\":\"dsync\\.[a-z.]{1,20}\"\\}\n?".prop_map(String::into_bytes),
    ]
}

/// Different ones, also longer than a block of the hash. HMAC pads keys with zeros, hence none that ends in one.
fn any_secrets() -> impl Strategy<Value = Vec<Secret>> {
    let one = prop_oneof!["whsec_[a-zA-Z0-9]{1,30}", "\\PC{1,90}"];
    prop::collection::btree_set(one, 2..5).prop_map(|secrets| secrets.into_iter().map(Secret::new).collect())
}

fn verify(header: &str, body: &[u8], secrets: &[Secret], now: i64) -> Result<(), SignatureError> {
    SignatureHeader::parse(header)?.verify(body, secrets, TOLERANCE, at(now))
}

proptest! {
    #[test]
    fn what_any_of_the_secrets_signed_is_accepted_and_what_another_signed_is_not(
        body in any_body(), secrets in any_secrets(), signer in any::<Index>(), time in any_time(),
    ) {
        let signer = signer.index(secrets.len());
        let header = sign(&secrets[signer], at(time), &body);
        prop_assert_eq!(verify(&header, &body, &secrets, time), Ok(()));
        let mut others = secrets;
        others.remove(signer);
        prop_assert_eq!(verify(&header, &body, &others, time), Err(SignatureError::Mismatch));
        prop_assert_eq!(verify(&header, &body, &[], time), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_body_that_differs_in_anything_is_refused(
        body in any_body(), secrets in any_secrets(), place in any::<Index>(), byte: u8, how in 0..3u8,
    ) {
        let mut changed = body.clone();
        let place = place.index(body.len() + 1);
        match how {
            0 => changed.insert(place, byte),
            1 => changed.truncate(place),
            _ => changed.iter_mut().skip(place).take(1).for_each(|old| *old = byte),
        }
        prop_assume!(changed != body);
        let header = sign(&secrets[0], at(0), &body);
        prop_assert_eq!(verify(&header, &changed, &secrets, 0), Err(SignatureError::Mismatch));
    }

    /// Only the case of hexadecimal digits and white space do not matter.
    #[test]
    fn a_header_that_differs_in_anything_is_refused(
        body in any_body(), secrets in any_secrets(), time in any_time(), place in any::<Index>(), new in any::<char>(),
        how in 0..3u8,
    ) {
        let header = sign(&secrets[0], at(time), &body);
        let mut changed: Vec<char> = header.chars().collect();
        let place = place.index(changed.len());
        match how {
            0 => changed.insert(place, new),
            1 => drop(changed.remove(place)),
            _ => changed[place] = new,
        }
        let changed: String = changed.into_iter().collect();
        let meaning = |header: &str| header.replace(char::is_whitespace, "").to_lowercase();
        prop_assume!(meaning(&changed) != meaning(&header));
        prop_assert!(verify(&changed, &body, &secrets, time).is_err(), "{} is accepted for {}", changed, header);
    }

    #[test]
    fn another_time_under_the_same_mac_is_refused(
        body in any_body(), secrets in any_secrets(), time in any_time(), later in 1..10_000_i64,
    ) {
        let header = sign(&secrets[0], at(time), &body);
        let moved = header.replace(&format!("t={time}"), &format!("t={}", time + later));
        prop_assert_eq!(verify(&moved, &body, &secrets, time), Err(SignatureError::Mismatch));
        let padded = header.replace("t=", "t=0");
        prop_assert_eq!(verify(&padded, &body, &secrets, time), Err(SignatureError::Mismatch));
    }

    #[test]
    fn case_spaces_and_order_do_not_matter(
        body in any_body(), secrets in any_secrets(), time in any_time(),
        spaces in prop::collection::vec("[ \t]{0,3}", 8), upper in prop::collection::vec(any::<bool>(), 64), turned: bool,
    ) {
        let header = sign(&secrets[0], at(time), &body);
        let (_, mac) = header.split_once("v1=").unwrap();
        let in_case = |(digit, upper): (char, &bool)| if *upper { digit.to_ascii_uppercase() } else { digit };
        let mac: String = mac.chars().zip(&upper).map(in_case).collect();
        let time_text = time.to_string();
        let component = |name: &str, content: &str, spaces: &[String]| {
            format!("{}{name}{}={}{content}{}", spaces[0], spaces[1], spaces[2], spaces[3])
        };
        let mut components = [component("t", &time_text, &spaces[..4]), component("v1", &mac, &spaces[4..])];
        if turned {
            components.reverse();
        }
        prop_assert_eq!(verify(&components.join(","), &body, &secrets, time), Ok(()));
    }

    #[test]
    fn an_unknown_or_repeated_component_is_refused(
        body in any_body(), secrets in any_secrets(), name in "[a-zA-Z0-9]{0,4}", content in "[a-f0-9]{0,64}",
        place in 0..3usize,
    ) {
        let header = sign(&secrets[0], at(0), &body);
        let mut components: Vec<String> = header.split(", ").map(str::to_owned).collect();
        components.insert(place, format!("{name}={content}"));
        prop_assert_eq!(verify(&components.join(","), &body, &secrets, 0), Err(SignatureError::Malformed));
    }

    #[test]
    fn exactly_the_tolerance_is_accepted_on_both_sides(
        body in any_body(), secrets in any_secrets(), time in any_time(), tolerance in 0..1_000_000_u64,
        beyond in -3..=3_i64, future: bool,
    ) {
        let away = i64::try_from(tolerance).unwrap() + beyond;
        let now = if future { time - away } else { time + away };
        let header = SignatureHeader::parse(&sign(&secrets[0], at(time), &body)).unwrap();
        let result = header.verify(&body, &secrets, Duration::from_millis(tolerance), at(now));
        let within = now.abs_diff(time) <= tolerance;
        prop_assert_eq!(result, if within { Ok(()) } else { Err(SignatureError::Stale) });
        let wrong = header.verify(b"another body!", &secrets, Duration::from_millis(tolerance), at(now));
        prop_assert_eq!(wrong, Err(SignatureError::Mismatch), "what is not genuine is never called stale");
    }
}
