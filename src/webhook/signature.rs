//! WorkOS's signature: `WorkOS-Signature: t=<ms>, v1=<hex HMAC-SHA256 of "<t>.<body>">`.
//!
//! Source: WorkOS's webhook documentation and the verification code of its official SDKs.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::config::Secret;

/// The header's name; HTTP names have no case.
pub const HEADER: &str = "WorkOS-Signature";

/// Why a request is not from WorkOS. For logs; a client is told only that the signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no header.
    #[error("the signature header is missing")]
    Missing,
    /// The header is not `t=…, v1=…`, or has a component we do not know: accepting one would open a way to downgrade.
    #[error("the signature header is malformed")]
    Malformed,
    /// No configured secret gives this signature.
    #[error("the signature does not match any configured secret")]
    Mismatch,
    /// Genuine, but made too long ago or too far in the future.
    #[error("the signature's time is outside the tolerance")]
    Stale,
}

/// Signs a body as WorkOS does; answers the header's value, whose time is in milliseconds.
#[must_use]
pub fn sign(secret: &Secret, at: Timestamp, body: &[u8]) -> String {
    let timestamp = at.timestamp_millis().to_string();
    let mac = keyed(secret, &timestamp, body).finalize().into_bytes();
    format!("t={timestamp}, v1={}", hex::encode(mac))
}

/// The MAC of `<timestamp>.<body>`, not yet finished.
fn keyed(secret: &Secret, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length (RFC 2104)");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// A well-formed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureHeader {
    timestamp: String,
    milliseconds: i64,
    mac: [u8; 32],
}

impl SignatureHeader {
    /// Parses the header's value.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`].
    pub fn parse(value: &str) -> Result<Self, SignatureError> {
        let (mut timestamp, mut mac) = (None, None);
        for component in value.split(',') {
            let (name, content) = component.trim().split_once('=').ok_or(SignatureError::Malformed)?;
            let slot = match name.trim() {
                "t" => &mut timestamp,
                "v1" => &mut mac,
                _ => return Err(SignatureError::Malformed),
            };
            if slot.replace(content.trim()).is_some() {
                return Err(SignatureError::Malformed);
            }
        }
        let (Some(timestamp), Some(mac)) = (timestamp, mac) else { return Err(SignatureError::Malformed) };
        if timestamp.is_empty() || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SignatureError::Malformed);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(mac, &mut bytes).map_err(|_| SignatureError::Malformed)?;
        Ok(Self {
            milliseconds: timestamp.parse().map_err(|_| SignatureError::Malformed)?,
            timestamp: timestamp.to_owned(),
            mac: bytes,
        })
    }

    /// Checks the MAC over the raw body with every secret, and only then the time.
    ///
    /// # Errors
    /// [`SignatureError::Mismatch`] or [`SignatureError::Stale`].
    pub fn verify(
        &self,
        body: &[u8],
        secrets: &[Secret],
        tolerance: Duration,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        if !secrets.iter().fold(false, |holds, secret| self.holds_for(body, secret) | holds) {
            return Err(SignatureError::Mismatch);
        }
        let away = now.timestamp_millis().abs_diff(self.milliseconds);
        if u128::from(away) > tolerance.as_millis() { Err(SignatureError::Stale) } else { Ok(()) }
    }

    fn holds_for(&self, body: &[u8], secret: &Secret) -> bool {
        keyed(secret, &self.timestamp, body).verify_slice(&self.mac).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    const MAC: &str = "32850522003ebbce01a416e5d5df8ec8354a96e921cac7d0ebbaeef5732bdaea";
    const AT: i64 = 1_700_000_000_000;

    fn verify(header: &str, body: &[u8], secrets: &[&str], now: i64) -> Result<(), SignatureError> {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        let now = DateTime::from_timestamp_millis(now).unwrap();
        SignatureHeader::parse(header)?.verify(body, &secrets, Duration::from_secs(180), now)
    }

    #[test]
    fn the_known_answer_holds_in_every_spelling() {
        for header in [
            format!("t={AT}, v1={MAC}"),
            format!("t={AT},v1={MAC}"),
            format!("  t={AT} ,  v1={} ", MAC.to_uppercase()),
            format!("v1={MAC}, t={AT}"),
        ] {
            assert_eq!(verify(&header, b"body", &["secret"], AT), Ok(()), "{header}");
        }
        let header = format!("t={AT}, v1={MAC}");
        assert_eq!(verify(&header, b"body", &["new", "secret"], AT), Ok(()), "any secret of several");
    }

    #[test]
    fn what_is_signed_here_is_the_known_answer_and_is_accepted() {
        let at = DateTime::from_timestamp_millis(AT).unwrap();
        assert_eq!(sign(&Secret::new("secret"), at, b"body"), format!("t={AT}, v1={MAC}"));
        for body in [&b""[..], b"{ }\r\n", &[0xff, 0x00]] {
            assert_eq!(verify(&sign(&Secret::new(""), at, body), body, &[""], AT), Ok(()));
        }
    }

    #[test]
    fn whatever_is_not_exactly_that_is_refused() {
        use SignatureError::{Malformed, Mismatch};
        let good = format!("t={AT}, v1={MAC}");
        assert_eq!(verify(&good, b"bodY", &["secret"], AT), Err(Mismatch));
        assert_eq!(verify(&good, b"body", &["secres"], AT), Err(Mismatch));
        assert_eq!(verify(&format!("t={}, v1={MAC}", AT + 1), b"body", &["secret"], AT), Err(Mismatch));
        for header in [
            "",
            "t=1",
            &format!("v1={MAC}"),
            &format!("{good}, v2=00"),
            &format!("{good}, v1={MAC}"),
            &format!("t=-1, v1={MAC}"),
            &format!("t={AT}, v1={}", &MAC[2..]),
            &format!("t={AT}, v1=zz{}", &MAC[2..]),
            &format!("t=99999999999999999999, v1={MAC}"),
        ] {
            assert_eq!(verify(header, b"body", &["secret"], AT), Err(Malformed), "{header}");
        }
    }

    #[test]
    fn the_time_is_judged_on_both_sides_and_only_after_the_mac() {
        let header = format!("t={AT}, v1={MAC}");
        for (away, result) in [
            (180_000, Ok(())),
            (-180_000, Ok(())),
            (180_001, Err(SignatureError::Stale)),
            (-180_001, Err(SignatureError::Stale)),
        ] {
            assert_eq!(verify(&header, b"body", &["secret"], AT + away), result, "{away}");
        }
        assert_eq!(verify(&header, b"x", &["secret"], AT + 999_999), Err(SignatureError::Mismatch));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(header in ".*") {
            let _ = SignatureHeader::parse(&header);
        }
    }
}
