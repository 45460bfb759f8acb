//! The `WorkOS-Signature` header.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The value of the `WorkOS-Signature` header for `body`: `t=<timestamp_ms>, v1=<lower-case hex>`.
///
/// The MAC is HMAC-SHA256 with the endpoint's `secret` over `<timestamp_ms>.<body>`. `timestamp_ms` is Unix time in
/// milliseconds; WorkOS's SDKs refuse one more than 180 s away from their clock.
/// Source: WorkOS documentation, "Sync data with webhooks", and the official SDKs' webhook modules.
pub fn sign(secret: &str, timestamp_ms: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(timestamp_ms.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let digest = hex::encode(mac.finalize().into_bytes());
    format!("t={timestamp_ms}, v1={digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        assert_eq!(
            sign("secret", 1_700_000_000_000, b"body"),
            "t=1700000000000, v1=32850522003ebbce01a416e5d5df8ec8354a96e921cac7d0ebbaeef5732bdaea"
        );
    }
}
