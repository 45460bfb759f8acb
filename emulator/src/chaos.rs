//! Chaos as a whole: what can be set, and how it is changed in part.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api_chaos::{ApiChaos, ApiPlan};
use crate::webhook_chaos::WebhookChaos;

/// Everything about chaos that can be set, as the control route reads and writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ChaosSettings {
    pub(crate) seed: u64,
    pub(crate) webhooks: WebhookChaos,
    pub(crate) api: ApiChaos,
}

/// A setting of chaos is not possible.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChaosError {
    /// A share lies outside 0 and 1.
    #[error("{name} must be a share from 0 to 1, and not {value}")]
    Share {
        /// The setting.
        name: &'static str,
        /// What it was to be.
        value: f64,
    },
}

impl WebhookChaos {
    /// Whether every share is from 0 to 1.
    pub(crate) fn check(&self) -> Result<(), ChaosError> {
        check(&self.shares())
    }
}

impl ApiChaos {
    /// Whether every share is from 0 to 1.
    pub(crate) fn check(&self) -> Result<(), ChaosError> {
        check(&self.shares())
    }
}

fn check(shares: &[(&'static str, f64)]) -> Result<(), ChaosError> {
    match shares.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
        Some(&(name, value)) => Err(ChaosError::Share { name, value }),
        None => Ok(()),
    }
}

/// Chaos, and the position of the next request in it.
#[derive(Debug)]
pub(crate) struct ApiPlanner {
    chaos: ApiChaos,
    seed: u64,
    position: u64,
    since: Instant,
}

impl ApiPlanner {
    pub(crate) fn new(chaos: ApiChaos, seed: u64, now: Instant) -> Self {
        Self { chaos, seed, position: 0, since: now }
    }

    pub(crate) fn chaos(&self) -> &ApiChaos {
        &self.chaos
    }

    pub(crate) fn next(&mut self, now: Instant) -> ApiPlan {
        let position = self.position;
        self.position += 1;
        let elapsed: Duration = now.saturating_duration_since(self.since);
        self.chaos.plan(self.seed, position, elapsed)
    }
}

/// `settings` with the members of `patch` in the place of its own, as in RFC 7396 (JSON Merge Patch): objects are merged,
/// and `null` takes a setting back to its default. An error says what is wrong with the patch.
pub(crate) fn patched<T: Serialize + DeserializeOwned>(settings: &T, patch: &[u8]) -> Result<T, serde_json::Error> {
    let patch: serde_json::Map<String, Value> = serde_json::from_slice(patch)?;
    let mut merged = serde_json::to_value(settings)?;
    merge(&mut merged, Value::Object(patch));
    serde_json::from_value(merged)
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    target.remove(&name);
                } else {
                    merge(target.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_changed_in_part() -> Result<(), serde_json::Error> {
        let settings = ChaosSettings { seed: 7, webhooks: WebhookChaos::moderate(), api: ApiChaos::moderate() };
        assert_eq!(patched(&settings, b"{}")?, settings);
        let changed = patched(&settings, br#"{"webhooks":{"drop":0.5,"delay":null},"api":{"outages":["1s..2s"]}}"#)?;
        assert_eq!((changed.seed, changed.webhooks.drop), (7, 0.5));
        assert_eq!(changed.webhooks.delay, WebhookChaos::default().delay);
        assert_eq!(changed.webhooks.duplicate, settings.webhooks.duplicate);
        assert_eq!(changed.api.outages.len(), 1);
        let calm: ChaosSettings = patched(&settings, br#"{"webhooks":null,"api":null,"seed":null}"#)?;
        assert_eq!(calm, ChaosSettings::default());
        Ok(())
    }

    #[test]
    fn what_is_unknown_or_impossible_is_refused() {
        for (patch, names) in [
            (r#"{"webhooks":{"dropp":1}}"#, "dropp"),
            (r#"{"weebhooks":{}}"#, "weebhooks"),
            (r#"{"api":{"lag":"soon"}}"#, "soon"),
            (r#"{"api":{"latency":"2s..1s"}}"#, "ends before it starts"),
            (r#"{"api":5}"#, "5"),
            ("[]", "sequence"),
            ("", "EOF"),
        ] {
            let refused = patched(&ChaosSettings::default(), patch.as_bytes());
            assert!(refused.as_ref().is_err_and(|error| error.to_string().contains(names)), "{patch}: {refused:?}");
        }
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(WebhookChaos { drop: share, ..WebhookChaos::default() }.check().is_err());
            assert!(ApiChaos { lag_share: share, ..ApiChaos::default() }.check().is_err());
        }
        assert!(WebhookChaos::moderate().check().and_then(|()| ApiChaos::moderate().check()).is_ok());
    }
}
