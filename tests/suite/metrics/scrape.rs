//! Reads what `GET /metrics` answers, by the rules of the format.

use std::collections::{BTreeMap, BTreeSet};

/// A scrape: each series with its value.
pub struct Scrape {
    pub text: String,
    series: BTreeMap<String, f64>,
    pub types: BTreeMap<String, String>,
}

impl Scrape {
    /// Reads the text by the rules of the format, version 0.0.4 (Prometheus's documentation, "Exposition formats").
    pub fn parse(text: String) -> Self {
        assert!(text.ends_with('\n'), "the last line has to end");
        let (mut series, mut types, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line} comes twice");
                name.clone_into(&mut family);
            } else {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let name = key.split('{').next().unwrap();
                let suffixes: &[&str] =
                    if types[&family] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(
                    name.strip_prefix(&family).is_some_and(|suffix| suffixes.contains(&suffix)),
                    "{line} stands in {family}"
                );
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte)), "{name}");
                for label in
                    key.split_once('{').map_or("", |(_, labels)| labels.strip_suffix('}').unwrap()).split("\",")
                {
                    let label = label.trim_end_matches('"');
                    assert!(label.is_empty() || label.split_once("=\"").is_some(), "{line}");
                }
                let value: f64 = value.parse().unwrap();
                assert!(value >= 0.0, "{line}");
                assert!(series.insert(key.to_owned(), value).is_none(), "{line} comes twice");
            }
        }
        let scrape = Self { text, series, types };
        scrape.check_histograms();
        scrape
    }

    fn check_histograms(&self) {
        let mut below: BTreeMap<String, f64> = BTreeMap::new();
        // In the order of the text: a map's order is not that of the bounds.
        for line in self.text.lines().filter(|line| line.contains("_bucket{")) {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let (start, bound) = key.split_once("le=\"").unwrap();
            let count: f64 = value.parse().unwrap();
            assert!(*below.get(start).unwrap_or(&0.0) <= count, "{line} is not cumulative");
            below.insert(start.to_owned(), count);
            if bound.starts_with("+Inf") {
                let all = start.replacen("_bucket", "_count", 1);
                let all = all.trim_end_matches([',', '{']);
                let all = if all.contains('{') { format!("{all}}}") } else { all.to_owned() };
                assert_eq!(self.series.get(&all), Some(&count), "{line}");
            }
        }
        assert!(!below.is_empty());
    }

    /// The value of a series that has our prefix.
    pub fn get(&self, series: &str) -> f64 {
        let key = format!("directory_mirror_{series}");
        *self.series.get(&key).unwrap_or_else(|| panic!("{key} is missing from\n{}", self.text))
    }

    /// Every name that a query may use.
    pub fn names(&self) -> BTreeSet<String> {
        self.series.keys().map(|key| key.split('{').next().unwrap().to_owned()).collect()
    }
}
