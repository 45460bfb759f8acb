//! The documents name only metrics that are there, and describe them all.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use directory_mirror::metrics::{Check, Metrics, PollerReadings, Readings, StoredReadings};
use serde_json::Value;

use super::scrape::Scrape;
use crate::support::root;

/// What a scrape shows when everything can be read.
fn full_scrape() -> Scrape {
    let now = Utc::now();
    let poller = PollerReadings { polled_at: Some(now), newest_event_at: Some(now), failing: false };
    let readings = Readings {
        now,
        started_at: now,
        checks: vec![(Check::Database, true)],
        api_last_success: Some(now),
        stored: Some(StoredReadings { workers: Some(1), ..StoredReadings::default() }),
        poller: Some(poller),
    };
    Scrape::parse(Metrics::default().encode(&readings))
}

/// The names with our prefix that a text mentions.
fn mentioned(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("directory_mirror_").map(|(at, _)| &text[at..]);
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    starts.map(name).collect()
}

#[test]
fn without_a_database_the_counters_are_still_told() {
    let now = Utc::now();
    let checks = vec![(Check::Database, false)];
    let readings = Readings { now, started_at: now, checks, api_last_success: None, stored: None, poller: None };
    let scrape = Scrape::parse(Metrics::default().encode(&readings));
    assert_eq!(scrape.get("check{check=\"database\"}"), 0.0);
    assert_eq!(scrape.get("webhooks_acknowledged_total"), 0.0);
    assert!(!scrape.names().contains("directory_mirror_inbox_pending_events"), "what is not known is not zero");
}

#[test]
fn the_dashboard_and_the_alerts_name_only_what_is_there() {
    let names = full_scrape().names();
    for file in ["docs/grafana-dashboard.json", "docs/alerts.yaml"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let mentioned = mentioned(&text);
        assert!(mentioned.len() >= 8, "{file}: {mentioned:?}");
        let unknown: Vec<&String> = mentioned.difference(&names).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let text = std::fs::read_to_string(root().join("docs/grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
    }
}

#[test]
fn every_metric_is_described() {
    let text = std::fs::read_to_string(root().join("docs/METRICS.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let described: BTreeMap<&str, &str> = rows.collect();
    let scrape = full_scrape();
    for (name, kind) in &scrape.types {
        let row = described.get(name.as_str()).unwrap_or_else(|| panic!("METRICS.md lacks {name}"));
        assert!(row.contains(kind.as_str()), "{name} is a {kind}: {row}");
    }
    for name in described.keys() {
        assert!(scrape.types.contains_key(*name), "METRICS.md describes {name}, which is not there");
    }
}
