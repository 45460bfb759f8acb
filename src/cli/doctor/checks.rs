//! What the facts about a set-up mean. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::finding::Finding;
use crate::config::{ApiConfig, ConfigProblems, DatabaseConfig, Secret};
use crate::db::{DbError, DirectoryHealth};
use crate::workos::{ApiError, Listing, Look};

const CONFIGURATION: &str = "configuration";
pub(super) const DATABASE: &str = "database";
pub(super) const MIGRATIONS: &str = "migrations";
pub(super) const SECRET: &str = "webhook secret";
pub(super) const KEY: &str = "API key";
pub(super) const DIRECTORIES: &str = "directories";
const BRAKE: &str = "brake";
pub(super) const CLOCK: &str = "clock";
pub(super) const LIMITS: &str = "limits";
const SERVER: &str = "server";
/// The `Date` header has whole seconds, and the answer was under way.
const CLOCK_SLACK_SECONDS: i64 = 5;
/// How many directories are named.
const NAMED: usize = 5;

pub(super) fn configuration(dotenv: Option<String>, problems: Option<&ConfigProblems>) -> Vec<Finding> {
    let remedy = "correct it in the environment or in .env; .env.example describes every variable";
    let mut findings: Vec<Finding> =
        dotenv.into_iter().map(|error| Finding::error(CONFIGURATION, error, remedy)).collect();
    let problems = problems.map(|problems| problems.0.as_slice()).unwrap_or_default();
    findings.extend(problems.iter().map(|problem| Finding::error(CONFIGURATION, problem.clone(), remedy)));
    if findings.is_empty() {
        findings.push(Finding::ok(CONFIGURATION, "every variable can be read"));
    }
    findings
}

/// The database as far as the file system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    /// A file that can be written, or a server.
    Usable,
    /// It can be created.
    Missing,
    /// Not even its folder is there.
    WithoutFolder,
    /// It is there and cannot be written.
    ReadOnly,
}

pub(super) fn database(config: &DatabaseConfig, file: File, error: Option<&DbError>) -> Finding {
    let kind = config.kind();
    match (file, error) {
        (File::WithoutFolder, _) => Finding::error(
            DATABASE,
            "sqlite: the file cannot be created, since its folder is not there",
            "create the folder, or set DATABASE_URL to another file",
        ),
        (File::Missing, None) => {
            Finding::note(DATABASE, "sqlite: the file is not there yet; the first start creates it")
        }
        (File::ReadOnly, None) => {
            let remedy = "give the service's user the right to write the file and its folder";
            Finding::error(DATABASE, "sqlite: the file cannot be written", remedy)
        }
        (_, None) => Finding::ok(DATABASE, format!("{kind} answers")),
        (_, Some(error)) => {
            let remedy = match config {
                DatabaseConfig::Sqlite(_) => {
                    "check DATABASE_URL: it has to name an SQLite file in a folder that is there"
                }
                DatabaseConfig::Postgres(_) => {
                    "check DATABASE_URL: host, port, user, password, database and sslmode, and that the server runs"
                }
            };
            Finding::error(DATABASE, format!("{kind}: {error}"), remedy)
        }
    }
}

pub(super) fn migrations(pending: &[String]) -> Finding {
    if pending.is_empty() {
        return Finding::ok(MIGRATIONS, "the database is up to date");
    }
    let remedy = "run `directory-mirror migrate`, or start `directory-mirror serve`, which does it by itself";
    Finding::warning(MIGRATIONS, format!("the database lacks {}", pending.join(", ")), remedy)
}

pub(super) fn secrets(secrets: &[Secret]) -> Vec<Finding> {
    let remedy = "copy the endpoint's signing secret from WorkOS's dashboard into WORKOS_WEBHOOK_SECRET";
    let mut findings: Vec<Finding> = Vec::new();
    for (number, secret) in secrets.iter().enumerate() {
        if let Some(doubt) = doubt_about(secret.expose()) {
            let which = if secrets.len() > 1 { format!("secret {}: ", number + 1) } else { String::new() };
            findings.push(Finding::warning(SECRET, format!("{which}{doubt}"), remedy));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SECRET, format!("{} secret(s) that look like one", secrets.len())));
    }
    findings
}

/// What is odd about a secret, in words that do not show it.
fn doubt_about(secret: &str) -> Option<&'static str> {
    let lower = secret.to_ascii_lowercase();
    if lower.starts_with("sk_") {
        return Some("this is an API key and not an endpoint's secret");
    }
    if lower.starts_with("client_") {
        return Some("this is a client id and not an endpoint's secret");
    }
    if secret.starts_with(['"', '\'']) || secret.ends_with(['"', '\'']) {
        return Some("it has quotation marks at its ends, which count as part of it");
    }
    if secret.contains(char::is_whitespace) {
        return Some("it has white space within, which no secret has");
    }
    let placeholder = ["changeme", "change-me", "your", "secret", "todo", "xxx", "any-secret", "…"];
    (placeholder.iter().any(|word| lower == *word || lower.starts_with("your")) || secret.len() < 8)
        .then_some("it looks like a placeholder: real ones are long and random")
}

pub(super) fn without_a_key() -> Vec<Finding> {
    let remedy = "set WORKOS_API_KEY, unless you only replay events";
    let mut findings =
        vec![Finding::warning(KEY, "WORKOS_API_KEY is not set: the mirror shows what events say, unverified", remedy)];
    let rest = [DIRECTORIES, super::endpoint::ENDPOINT, CLOCK, LIMITS];
    findings.extend(rest.map(|check| Finding::skipped(check, "there is no API key")));
    findings
}

pub(super) fn unreachable(error: &ApiError) -> Finding {
    let remedy = "check WORKOS_API_BASE_URL, name resolution, the firewall and the proxy between here and the API";
    Finding::error(KEY, error.to_string(), remedy)
}

/// Keys name their kind of environment in their beginning (WorkOS: "API keys", staging and production).
fn environment(key: &str) -> &'static str {
    match key {
        key if key.starts_with("sk_test_") => "a staging environment's key",
        key if key.starts_with("sk_live_") => "a production environment's key",
        _ => "a key that does not tell its environment",
    }
}

pub(super) fn key(key: &str, listing: &Listing) -> Finding {
    let environment = environment(key);
    let look = &listing.last;
    match (look.status, &look.body) {
        (200, _) if listing.is_complete() => Finding::ok(KEY, format!("accepted; {environment}")),
        (status @ (401 | 403), _) => Finding::error(
            KEY,
            format!("the API refuses the key with status {status} ({environment})"),
            "copy a secret key of the environment that sends the webhooks into WORKOS_API_KEY; it may have been revoked",
        ),
        (429, _) => {
            Finding::warning(KEY, "the API's rate limit is met", "wait a minute, and see who else uses the key")
        }
        (status, None) => Finding::error(
            KEY,
            format!(
                "the answer (status {status}) is not WorkOS's: it is no JSON, so a proxy or another server gave it"
            ),
            "check WORKOS_API_BASE_URL, and the proxy between here and the API",
        ),
        (status, Some(_)) => Finding::error(
            KEY,
            format!("the API answers with status {status}, or without a list"),
            "check WORKOS_API_BASE_URL; if it is right, see https://status.workos.com",
        ),
    }
}

fn named(ids: &[String]) -> String {
    let more = if ids.len() > NAMED { format!(" and {} more", ids.len() - NAMED) } else { String::new() };
    format!("{}{more}", ids.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
}

/// Which directories' removals are stopped, if any are.
pub(super) fn brake(known: &[DirectoryHealth]) -> Option<Finding> {
    let braked = known.iter().filter(|one| one.directory.is_followed() && one.braked_at.is_some());
    let ids: Vec<String> = braked.map(|one| one.directory.record.id.to_string()).collect();
    let remedy = "if they are right, run `directory-mirror sync <directory> --confirm-removals`; if not, find out why the API does not show them";
    let message = || format!("so many vanished at once that their removal is held, in {}", named(&ids));
    (!ids.is_empty()).then(|| Finding::error(BRAKE, message(), remedy))
}

pub(super) fn directories(listing: &Listing, known: Option<&[DirectoryHealth]>) -> Finding {
    if !listing.is_complete() {
        return Finding::skipped(DIRECTORIES, "the API does not list them");
    }
    let text = |record: &Value, field: &str| record.get(field).and_then(Value::as_str).map(str::to_owned);
    let seen: BTreeSet<String> = listing.records.iter().filter_map(|record| text(record, "id")).collect();
    let rows = || known.unwrap_or_default().iter().map(|one| &one.directory);
    let followed = rows().filter(|row| row.is_followed());
    let unseen: Vec<String> = followed.map(|row| row.record.id.to_string()).filter(|id| !seen.contains(id)).collect();
    if !unseen.is_empty() {
        return Finding::error(
            DIRECTORIES,
            format!(
                "the mirror has {} directories that this key does not see ({}): it belongs to another environment than the events",
                unseen.len(),
                named(&unseen)
            ),
            "set WORKOS_API_KEY to a key of the environment that sends the webhooks, or use a database of its own for each; one that an event of yours invented can be disabled",
        );
    }
    if seen.is_empty() {
        let remedy = "connect a directory in the dashboard; if there are some, the key belongs to another environment";
        return Finding::warning(DIRECTORIES, "the key sees no directory", remedy);
    }
    let shown: Vec<String> = listing
        .records
        .iter()
        .map(|record| {
            let part = |field| text(record, field).unwrap_or_else(|| "?".to_owned());
            format!("{} {:?} ({})", part("id"), part("name"), part("state"))
        })
        .collect();
    let known = rows().filter(|row| seen.contains(row.record.id.as_str())).count();
    Finding::ok(DIRECTORIES, format!("the key sees {}: {}; the mirror has {known} of them", seen.len(), named(&shown)))
}

pub(super) fn clock(look: &Look, tolerance: Duration) -> Finding {
    let Some(date) = look.date else {
        return Finding::note(CLOCK, "the API's answer has no Date header to compare with");
    };
    let (sent, answered) = look.between;
    let ahead = (sent - date).num_seconds();
    let behind = (date - answered).num_seconds();
    let skew = ahead.max(behind).max(0);
    let remedy = "set the clock by NTP (timedatectl set-ntp true)";
    let direction = if ahead > behind { "ahead of" } else { "behind" };
    if skew <= CLOCK_SLACK_SECONDS {
        Finding::ok(CLOCK, "agrees with the API's to a few seconds")
    } else if u64::try_from(skew).is_ok_and(|skew| skew < tolerance.as_secs()) {
        Finding::warning(CLOCK, format!("{skew} s {direction} the API's clock"), remedy)
    } else {
        let message = format!(
            "{skew} s {direction} the API's clock: webhooks are refused beyond {} s (WEBHOOK_TOLERANCE)",
            tolerance.as_secs()
        );
        Finding::error(CLOCK, message, remedy)
    }
}

pub(super) fn limits(look: &Look, api: &ApiConfig) -> Finding {
    let own = |limit: u32, unit: &str| if limit == 0 { format!("no limit {unit}") } else { format!("{limit} {unit}") };
    let ours = format!(
        "our own: {}, {}",
        own(api.requests_per_minute, "requests a minute"),
        own(api.directory_users_per_second, "a second for each directory's users")
    );
    match &look.remaining {
        Some(remaining) => Finding::ok(LIMITS, format!("the API says that {remaining} requests are left; {ours}")),
        None => Finding::note(LIMITS, format!("the API does not tell how many requests are left; {ours}")),
    }
}

pub(super) fn server(address: &str, status: Option<u16>) -> Finding {
    match status {
        Some(200) => Finding::ok(SERVER, format!("one is ready at {address}")),
        Some(status) => Finding::warning(
            SERVER,
            format!("what listens at {address} is not ready (status {status})"),
            format!("see http://{address}/health/ready; another program may have the port"),
        ),
        None => Finding::note(SERVER, format!("none answers at {address}; `directory-mirror serve` starts one")),
    }
}
