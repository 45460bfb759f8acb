//! What befalls requests to the API: a plan for each, decided by a seed, the request's position and the time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::SplitMix64;
use crate::shared::ApiFault;
use crate::span::{self, DurationRange};

/// What WorkOS and the proxies before it answer on a bad day.
const SERVER_ERRORS: [u16; 4] = [500, 502, 503, 504];

/// What befalls requests to the API. Every share is that of the requests which it strikes, from 0 to 1; the default is none.
///
/// A request that several strike suffers the first of: outage, hang, 429, 5xx, 401, HTML 404.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiChaos {
    /// How long each answer is held back. It is made when the request arrives, so that a change can overtake it.
    pub latency: DurationRange,
    /// Share of requests that are answered 500, 502, 503 or 504.
    pub server_error_rate: f64,
    /// Share of requests that are answered 429 with `Retry-After: 1`.
    pub rate_limited_rate: f64,
    /// Share of requests that are never answered.
    pub hang_rate: f64,
    /// Share of requests that are answered 401, as if with a wrong key.
    pub unauthorized_rate: f64,
    /// Share of requests that are answered 404 with a page of HTML, as by a proxy that lost its backend.
    pub html_not_found_rate: f64,
    /// How old the state can be that an answer shows. All of an answer is of one moment; the next can be of an earlier one.
    #[serde(with = "span::text")]
    pub lag: Duration,
    /// Share of answers that lag.
    pub lag_share: f64,
    /// When everything is answered 503, counted from the setting of this chaos; the ends are excluded.
    pub outages: Vec<DurationRange>,
}

impl Default for ApiChaos {
    fn default() -> Self {
        Self {
            latency: DurationRange::default(),
            server_error_rate: 0.0,
            rate_limited_rate: 0.0,
            hang_rate: 0.0,
            unauthorized_rate: 0.0,
            html_not_found_rate: 0.0,
            lag: Duration::ZERO,
            lag_share: 1.0,
            outages: Vec::new(),
        }
    }
}

/// What befalls one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiPlan {
    /// How the API misbehaves, if it does.
    pub fault: ApiFault,
    /// How long the answer is held back.
    pub latency: Duration,
    /// How old the state is that the answer shows.
    pub lag: Duration,
}

impl ApiChaos {
    /// A moderate mix of everything but outages and wrong keys.
    pub fn moderate() -> Self {
        Self {
            latency: DurationRange::new(Duration::from_millis(50), Duration::from_millis(200)).unwrap_or_default(),
            server_error_rate: 0.05,
            rate_limited_rate: 0.02,
            hang_rate: 0.01,
            html_not_found_rate: 0.01,
            lag: Duration::from_secs(5),
            lag_share: 0.2,
            ..Self::default()
        }
    }

    /// What befalls the request at `position`, counted from 0, that arrives `elapsed` after this chaos was set.
    ///
    /// Depends on the arguments alone.
    pub fn plan(&self, seed: u64, position: u64, elapsed: Duration) -> ApiPlan {
        let mut random = SplitMix64::at(seed, position);
        let [hangs, limited, fails, unauthorized, html] = [
            self.hang_rate,
            self.rate_limited_rate,
            self.server_error_rate,
            self.unauthorized_rate,
            self.html_not_found_rate,
        ]
        .map(|share| random.hits(share));
        let error = SERVER_ERRORS[random.up_to(SERVER_ERRORS.len() as u64 - 1) as usize];
        let lags = random.hits(self.lag_share);
        let lag = DurationRange::new(Duration::ZERO, self.lag).unwrap_or_default().draw(&mut random);
        let latency = self.latency.draw(&mut random);
        let out = self.outages.iter().any(|outage| outage.contains(elapsed));
        let fault = match () {
            () if out => ApiFault::Status(503),
            () if hangs => ApiFault::Hang,
            () if limited => ApiFault::RateLimited,
            () if fails => ApiFault::Status(error),
            () if unauthorized => ApiFault::Status(401),
            () if html => ApiFault::HtmlNotFound,
            () => ApiFault::None,
        };
        ApiPlan { fault, latency, lag: if lags { lag } else { Duration::ZERO } }
    }

    pub(crate) fn shares(&self) -> [(&'static str, f64); 6] {
        [
            ("server_error_rate", self.server_error_rate),
            ("rate_limited_rate", self.rate_limited_rate),
            ("hang_rate", self.hang_rate),
            ("unauthorized_rate", self.unauthorized_rate),
            ("html_not_found_rate", self.html_not_found_rate),
            ("lag_share", self.lag_share),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    fn plans(chaos: &ApiChaos, seed: u64) -> Vec<ApiPlan> {
        (0..2000).map(|position| chaos.plan(seed, position, Duration::ZERO)).collect()
    }

    #[test]
    fn each_share_strikes_so_many() {
        type Set = fn(&mut ApiChaos, f64);
        type Is = fn(ApiFault) -> bool;
        let cases: [(Set, Is); 5] = [
            (|chaos, share| chaos.hang_rate = share, |fault| fault == ApiFault::Hang),
            (|chaos, share| chaos.rate_limited_rate = share, |fault| fault == ApiFault::RateLimited),
            (
                |chaos, share| chaos.server_error_rate = share,
                |fault| matches!(fault, ApiFault::Status(500 | 502 | 503 | 504)),
            ),
            (|chaos, share| chaos.unauthorized_rate = share, |fault| fault == ApiFault::Status(401)),
            (|chaos, share| chaos.html_not_found_rate = share, |fault| fault == ApiFault::HtmlNotFound),
        ];
        for (case, (set, is)) in cases.into_iter().enumerate() {
            let mut chaos = ApiChaos::default();
            set(&mut chaos, 0.25);
            let plans = plans(&chaos, SEED);
            let struck = plans.iter().filter(|plan| is(plan.fault)).count();
            assert!((400..600).contains(&struck), "{case}: {struck}");
            assert!(plans.iter().all(|plan| is(plan.fault) || plan.fault == ApiFault::None));
        }
    }

    #[test]
    fn lag_and_latency_stay_in_their_ranges() {
        let latency: DurationRange = "50ms..200ms".parse().expect("the text is a range");
        let chaos = ApiChaos { latency, lag: Duration::from_secs(5), lag_share: 0.5, ..ApiChaos::default() };
        let plans = plans(&chaos, SEED);
        assert!(plans.iter().all(|plan| (latency.min()..=latency.max()).contains(&plan.latency)));
        assert!(plans.iter().all(|plan| plan.lag <= chaos.lag));
        let lagging = plans.iter().filter(|plan| plan.lag > Duration::ZERO).count();
        assert!((900..1100).contains(&lagging), "{lagging}");
    }

    #[test]
    fn outages_have_their_windows() {
        let chaos = ApiChaos {
            outages: ["0..1s", "5s..6s"].map(|text| text.parse().expect("the text is a range")).into(),
            ..ApiChaos::default()
        };
        for (at, out) in [(0, true), (999, true), (1000, false), (4999, false), (5500, true), (6000, false)] {
            let plan = chaos.plan(SEED, 0, Duration::from_millis(at));
            assert_eq!(plan.fault == ApiFault::Status(503), out, "{at}");
        }
    }

    #[test]
    fn a_seed_decides_everything() {
        let chaos = ApiChaos::moderate();
        assert_eq!(plans(&chaos, SEED), plans(&chaos, SEED));
        assert_ne!(plans(&chaos, SEED), plans(&chaos, SEED + 1));
    }
}
