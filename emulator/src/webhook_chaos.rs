//! What befalls webhooks on their way: a plan for each event, decided by a seed and the event's position alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::SplitMix64;
use crate::span::{self, DurationRange};

/// How many events back a stale redelivery reaches.
pub(crate) const STALE_REACH: u64 = 100;

/// The least and the greatest error of a mistimed signature, in milliseconds. WorkOS's SDKs tolerate 180 s; a minute
/// more leaves no doubt, however long the way was.
const MISTIMED_MS: (u64, u64) = (240_000, 7_200_000);

/// What befalls webhooks. Every share is that of the events which it strikes, from 0 to 1; the default is none.
///
/// A share's decision does not depend on the other shares: raising one leaves what the others strike as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookChaos {
    /// Share of events that are sent once more, with a delay of their own. Both are retried until acknowledged.
    pub duplicate: f64,
    /// By how many later events one can be overtaken; 0 keeps the order of sending.
    pub reorder_window: u64,
    /// How long an event waits at most for those that are to overtake it.
    #[serde(with = "span::text")]
    pub reorder_hold: Duration,
    /// How long each sending is held back.
    pub delay: DurationRange,
    /// Share of events that are never sent, though they took place.
    pub drop: f64,
    /// Share of events after which one of the up to 100 before it is sent again, with its old body and a fresh signature.
    pub stale_redelivery: f64,
    /// Share of events to which a forgery is added: signed with another secret, or altered after the signing.
    pub tampered: f64,
    /// Share of events to which a copy is added whose signature is right, but 4 minutes to 2 hours old or early.
    pub mistimed: f64,
}

impl Default for WebhookChaos {
    fn default() -> Self {
        Self {
            duplicate: 0.0,
            reorder_window: 0,
            reorder_hold: Duration::from_secs(1),
            delay: DurationRange::default(),
            drop: 0.0,
            stale_redelivery: 0.0,
            tampered: 0.0,
            mistimed: 0.0,
        }
    }
}

/// Why something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryKind {
    /// The event took place.
    Emission,
    /// Chaos sends the event a second time.
    Duplicate,
    /// Chaos sends an earlier event again.
    Stale,
    /// It was asked for.
    Redelivery,
    /// A forgery that a consumer must refuse.
    Tampered,
    /// A genuine signature of another time, which a consumer must refuse.
    Mistimed,
}

impl DeliveryKind {
    /// Whether a consumer that accepts it is at fault. It is sent once and not again.
    pub fn is_forged(self) -> bool {
        matches!(self, Self::Tampered | Self::Mistimed)
    }
}

/// How a sending is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignaturePlan {
    /// With the endpoint's secret, at the time of sending.
    Genuine,
    /// With a secret that is not the endpoint's.
    WrongSecret,
    /// As it should be, but the body gets another member after that.
    AlteredBody,
    /// With the endpoint's secret, but so many milliseconds from the time of sending.
    Mistimed(i64),
}

/// One sending that a plan asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedDelivery {
    /// Why it is sent.
    pub kind: DeliveryKind,
    /// How many events back the one is that is sent; 0 is the event itself.
    pub back: u64,
    /// How many later events are sent first, if they come within [`WebhookChaos::reorder_hold`].
    pub overtaken_by: u64,
    /// How long it is held back after that.
    pub delay: Duration,
    /// How it is signed.
    pub signature: SignaturePlan,
}

impl PlannedDelivery {
    /// At once, and as it should be.
    pub(crate) fn emission() -> Self {
        Self {
            kind: DeliveryKind::Emission,
            back: 0,
            overtaken_by: 0,
            delay: Duration::ZERO,
            signature: SignaturePlan::Genuine,
        }
    }
}

impl WebhookChaos {
    /// A moderate mix of everything.
    pub fn moderate() -> Self {
        Self {
            duplicate: 0.1,
            reorder_window: 20,
            delay: DurationRange::new(Duration::ZERO, Duration::from_secs(2)).unwrap_or_default(),
            drop: 0.02,
            stale_redelivery: 0.05,
            tampered: 0.02,
            mistimed: 0.02,
            ..Self::default()
        }
    }

    /// The sendings of the event at `position`, counted from 0. An event without a [`DeliveryKind::Emission`] in its
    /// plan is dropped.
    ///
    /// Depends on the arguments alone: the same seed and position give the same plan.
    pub fn plan(&self, seed: u64, position: u64) -> Vec<PlannedDelivery> {
        let mut random = SplitMix64::at(seed, position);
        let dropped = random.hits(self.drop);
        // Everything is drawn in every case: which draw decides what must not depend on the shares.
        let mut sending = |kind, share: f64, signature| {
            let strikes = random.hits(share);
            let overtaken_by = random.up_to(u64::MAX);
            let planned = PlannedDelivery {
                kind,
                back: 0,
                overtaken_by: self.reorder_window.checked_add(1).map_or(overtaken_by, |count| overtaken_by % count),
                delay: self.delay.draw(&mut random),
                signature,
            };
            strikes.then_some(planned)
        };
        let emission = sending(DeliveryKind::Emission, 1.0, SignaturePlan::Genuine);
        let duplicate = sending(DeliveryKind::Duplicate, self.duplicate, SignaturePlan::Genuine);
        let stale = sending(DeliveryKind::Stale, self.stale_redelivery, SignaturePlan::Genuine);
        let tampered = sending(DeliveryKind::Tampered, self.tampered, SignaturePlan::WrongSecret);
        let mistimed = sending(DeliveryKind::Mistimed, self.mistimed, SignaturePlan::Mistimed(0));
        let stale_back = random.bits();
        let alters_body = random.hits(0.5);
        let error = offset(&mut random);
        let stale = stale.and_then(|planned| self.stale(planned, seed, position, stale_back));
        let tampered = tampered.map(|planned| match alters_body {
            true => PlannedDelivery { signature: SignaturePlan::AlteredBody, ..planned },
            false => planned,
        });
        let mistimed = mistimed.map(|planned| PlannedDelivery { signature: SignaturePlan::Mistimed(error), ..planned });
        let genuine = [emission, duplicate].into_iter().flatten().filter(|_| !dropped);
        genuine.chain([stale, tampered, mistimed].into_iter().flatten()).collect()
    }

    /// The stale sending, if there is an event to send: the first has none before it, and what was dropped stays so.
    fn stale(&self, planned: PlannedDelivery, seed: u64, position: u64, bits: u64) -> Option<PlannedDelivery> {
        let back = 1 + bits.checked_rem(position.min(STALE_REACH))?;
        let dropped = SplitMix64::at(seed, position - back).hits(self.drop);
        (!dropped).then_some(PlannedDelivery { back, ..planned })
    }

    pub(crate) fn shares(&self) -> [(&'static str, f64); 5] {
        [
            ("duplicate", self.duplicate),
            ("drop", self.drop),
            ("stale_redelivery", self.stale_redelivery),
            ("tampered", self.tampered),
            ("mistimed", self.mistimed),
        ]
    }
}

/// Milliseconds, half of them negative.
fn offset(random: &mut SplitMix64) -> i64 {
    let (least, greatest) = MISTIMED_MS;
    let size = least + random.up_to(greatest - least);
    let size = i64::try_from(size).expect("two hours in milliseconds are few");
    if random.hits(0.5) { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: u64 = 2000;
    const SEED: u64 = 7;

    fn plans(chaos: &WebhookChaos, seed: u64) -> Vec<Vec<PlannedDelivery>> {
        (0..EVENTS).map(|position| chaos.plan(seed, position)).collect()
    }

    fn count(chaos: &WebhookChaos, kind: DeliveryKind) -> usize {
        plans(chaos, SEED).iter().flatten().filter(|planned| planned.kind == kind).count()
    }

    #[test]
    fn without_chaos_each_event_is_sent_once_and_at_once() {
        for plan in plans(&WebhookChaos::default(), SEED) {
            assert_eq!(plan, [PlannedDelivery::emission()]);
        }
    }

    #[test]
    fn each_share_adds_its_kind_and_no_other() {
        type Set = fn(&mut WebhookChaos, f64);
        let cases: [(DeliveryKind, Set); 4] = [
            (DeliveryKind::Duplicate, |chaos, share| chaos.duplicate = share),
            (DeliveryKind::Stale, |chaos, share| chaos.stale_redelivery = share),
            (DeliveryKind::Tampered, |chaos, share| chaos.tampered = share),
            (DeliveryKind::Mistimed, |chaos, share| chaos.mistimed = share),
        ];
        for (kind, set) in cases {
            let mut chaos = WebhookChaos::default();
            set(&mut chaos, 0.25);
            let quarter = count(&chaos, kind);
            assert!((400..600).contains(&quarter), "{kind:?}: {quarter}");
            assert_eq!(count(&chaos, DeliveryKind::Emission), 2000);
            let all: usize = plans(&chaos, SEED).iter().map(Vec::len).sum();
            assert_eq!(all, 2000 + quarter, "{kind:?}");
            set(&mut chaos, 1.0);
            let first_has_no_past = usize::from(kind == DeliveryKind::Stale);
            assert_eq!(count(&chaos, kind), 2000 - first_has_no_past);
        }
    }

    #[test]
    fn what_is_dropped_is_never_genuinely_sent() {
        let chaos = WebhookChaos { drop: 0.5, duplicate: 1.0, stale_redelivery: 1.0, ..WebhookChaos::default() };
        let plans = plans(&chaos, SEED);
        let is_emitted = |plan: &Vec<PlannedDelivery>| plan.iter().any(|one| one.kind == DeliveryKind::Emission);
        let emitted: Vec<bool> = plans.iter().map(is_emitted).collect();
        let kept = emitted.iter().filter(|emitted| **emitted).count();
        assert!((900..1100).contains(&kept), "{kept}");
        for (position, plan) in plans.iter().enumerate() {
            for planned in plan {
                assert!(emitted[position - planned.back as usize], "{planned:?}");
                assert!(planned.back <= STALE_REACH);
            }
        }
    }

    #[test]
    fn a_seed_decides_everything() {
        let chaos = WebhookChaos::moderate();
        assert_eq!(plans(&chaos, SEED), plans(&chaos, SEED));
        assert_ne!(plans(&chaos, SEED), plans(&chaos, SEED + 1));
        // Another share leaves the rest as it was.
        let more = WebhookChaos { duplicate: 1.0, ..chaos.clone() };
        for (some, all) in plans(&chaos, SEED).into_iter().zip(plans(&more, SEED)) {
            assert!(some.iter().all(|planned| all.contains(planned)));
        }
    }

    #[test]
    fn delays_places_and_times_stay_in_their_ranges() {
        let delay: DurationRange = "10ms..20ms".parse().expect("the text is a range");
        let chaos = WebhookChaos { delay, reorder_window: 5, mistimed: 1.0, ..WebhookChaos::default() };
        let all: Vec<PlannedDelivery> = plans(&chaos, SEED).concat();
        assert!(all.iter().all(|planned| (delay.min()..=delay.max()).contains(&planned.delay)));
        for overtaken_by in 0..=5 {
            assert!(all.iter().any(|planned| planned.overtaken_by == overtaken_by));
        }
        assert!(all.iter().all(|planned| planned.overtaken_by <= 5));
        let errors = all.iter().filter_map(|planned| match planned.signature {
            SignaturePlan::Mistimed(error) => Some(error),
            _ => None,
        });
        let errors: Vec<i64> = errors.collect();
        assert!(errors.iter().all(|error| (240_000..=7_200_000).contains(&error.abs())));
        assert!(errors.iter().any(|error| *error < 0) && errors.iter().any(|error| *error > 0));
    }
}
