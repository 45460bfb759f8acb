//! Chaos as the command line sets it.

use std::time::Duration;

use workos_emulator::{ApiChaos, DurationRange, WebhookChaos};

/// What goes wrong from the start on. Shares are from 0 to 1, durations such as 250ms, ranges such as 50ms..2s.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Chaos")]
pub(crate) struct ChaosArgs {
    /// A moderate mix of everything; each other option sets its own part.
    #[arg(long)]
    chaos: bool,
    /// Decides what chaos strikes.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) chaos_seed: u64,
    /// Share of events that are sent twice.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    duplicate: Option<f64>,
    /// By how many later events one can be overtaken.
    #[arg(long, value_name = "EVENTS")]
    reorder: Option<u64>,
    /// How long webhooks are held back.
    #[arg(long, value_name = "RANGE")]
    delay: Option<DurationRange>,
    /// Share of events that are never sent.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    drop: Option<f64>,
    /// Share of events after which an earlier one is sent again.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    stale: Option<f64>,
    /// Share of events to which a forgery is added.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    tamper: Option<f64>,
    /// Share of events to which a copy with a signature of another time is added.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    mistime: Option<f64>,
    /// How long answers of the API are held back.
    #[arg(long, value_name = "RANGE")]
    latency: Option<DurationRange>,
    /// Share of requests that are answered 500, 502, 503 or 504.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    errors: Option<f64>,
    /// Share of requests that are answered 429.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    throttle: Option<f64>,
    /// Share of requests that are never answered.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    hang: Option<f64>,
    /// Share of requests that are answered 401.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    unauthorized: Option<f64>,
    /// Share of requests that are answered 404 with HTML, as by a proxy.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    html_not_found: Option<f64>,
    /// How old the state can be that an answer shows.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lag: Option<Duration>,
    /// When everything is answered 503, counted from the start; can be given several times.
    #[arg(long, value_name = "RANGE")]
    outage: Vec<DurationRange>,
}

impl ChaosArgs {
    pub(crate) fn webhooks(&self) -> WebhookChaos {
        let base = if self.chaos { WebhookChaos::moderate() } else { WebhookChaos::default() };
        WebhookChaos {
            duplicate: self.duplicate.unwrap_or(base.duplicate),
            reorder_window: self.reorder.unwrap_or(base.reorder_window),
            reorder_hold: base.reorder_hold,
            delay: self.delay.unwrap_or(base.delay),
            drop: self.drop.unwrap_or(base.drop),
            stale_redelivery: self.stale.unwrap_or(base.stale_redelivery),
            tampered: self.tamper.unwrap_or(base.tampered),
            mistimed: self.mistime.unwrap_or(base.mistimed),
        }
    }

    pub(crate) fn api(&self) -> ApiChaos {
        let base = if self.chaos { ApiChaos::moderate() } else { ApiChaos::default() };
        ApiChaos {
            latency: self.latency.unwrap_or(base.latency),
            server_error_rate: self.errors.unwrap_or(base.server_error_rate),
            rate_limited_rate: self.throttle.unwrap_or(base.rate_limited_rate),
            hang_rate: self.hang.unwrap_or(base.hang_rate),
            unauthorized_rate: self.unauthorized.unwrap_or(base.unauthorized_rate),
            html_not_found_rate: self.html_not_found.unwrap_or(base.html_not_found_rate),
            lag: self.lag.unwrap_or(base.lag),
            lag_share: base.lag_share,
            outages: self.outage.clone(),
        }
    }

    /// Whether anything goes wrong.
    pub(crate) fn any(&self) -> bool {
        self.webhooks() != WebhookChaos::default() || self.api() != ApiChaos::default()
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is from 0 to 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        chaos: ChaosArgs,
    }

    fn parse(line: &str) -> Result<ChaosArgs, clap::Error> {
        Cli::try_parse_from(std::iter::once("emulator").chain(line.split_whitespace())).map(|cli| cli.chaos)
    }

    #[test]
    fn options_set_their_parts() -> Result<(), Box<dyn std::error::Error>> {
        let calm = parse("")?;
        assert!(!calm.any());
        let line = "--duplicate 0.1 --reorder 20 --delay 0..2s --drop 0.2 --stale 0.3 --tamper 0.4 --mistime 0.5 \
            --latency 50ms..200ms --errors 0.1 --throttle 0.2 --hang 0.3 --unauthorized 0.4 --html-not-found 0.5 \
            --lag 5s --outage 1s..2s --outage 5s..6s --chaos-seed 7";
        let some = parse(line)?;
        assert!(some.any());
        assert_eq!(some.chaos_seed, 7);
        let webhooks = WebhookChaos {
            duplicate: 0.1,
            reorder_window: 20,
            delay: "0..2s".parse()?,
            drop: 0.2,
            stale_redelivery: 0.3,
            tampered: 0.4,
            mistimed: 0.5,
            ..WebhookChaos::default()
        };
        assert_eq!(some.webhooks(), webhooks);
        let api = ApiChaos {
            latency: "50ms..200ms".parse()?,
            server_error_rate: 0.1,
            rate_limited_rate: 0.2,
            hang_rate: 0.3,
            unauthorized_rate: 0.4,
            html_not_found_rate: 0.5,
            lag: Duration::from_secs(5),
            outages: vec!["1s..2s".parse()?, "5s..6s".parse()?],
            ..ApiChaos::default()
        };
        assert_eq!(some.api(), api);
        let mix = parse("--chaos --drop 0")?;
        assert_eq!(mix.webhooks(), WebhookChaos { drop: 0.0, ..WebhookChaos::moderate() });
        assert_eq!(mix.api(), ApiChaos::moderate());
        for line in ["--drop 1.5", "--drop x", "--delay 2s..1s", "--lag soon"] {
            assert!(parse(line).is_err(), "{line}");
        }
        Ok(())
    }
}
