//! Configuration: read in one place from the environment, all its problems reported at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A string that never shows itself in logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for signing and authorising only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a process of the service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Everything.
    All,
    /// Receives webhooks and stores them.
    Web,
    /// Keeps the mirror; answers only probes.
    Worker,
}

impl Role {
    /// Whether it receives webhooks.
    #[must_use]
    pub fn receives(self) -> bool {
        self != Self::Worker
    }

    /// Whether it keeps the mirror.
    #[must_use]
    pub fn works(self) -> bool {
        self != Self::Web
    }
}

/// Where the mirror is kept.
#[derive(Debug, Clone)]
pub enum DatabaseConfig {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Box<PostgresConfig>),
}

impl DatabaseConfig {
    /// Which engine, for logs; where it is may be nobody's business.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// How PostgreSQL is reached.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Host, user, password and the rest.
    pub connection: tokio_postgres::Config,
    /// The schema that holds all our objects.
    pub schema: String,
    /// `sslmode=verify-full`.
    pub verify_certificate: bool,
    /// `sslrootcert`: a PEM file to trust instead of the platform's store.
    pub root_certificate: Option<PathBuf>,
    /// `LEASE_TTL`: how soon other workers take the directories of one over that was not seen alive.
    pub lease_ttl: Duration,
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// How the WorkOS API is reached.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// `WORKOS_API_KEY`; without one the service runs on snapshots alone.
    pub key: Option<Secret>,
    /// `WORKOS_API_BASE_URL`, without a slash at its end.
    pub base_url: String,
    /// `WORKOS_API_REQUESTS_PER_MINUTE`; 0 = no limit of ours.
    pub requests_per_minute: u32,
    /// `WORKOS_DIRECTORY_USERS_PER_SECOND` for each directory; 0 = no limit of ours.
    pub directory_users_per_second: u32,
    /// `EVENTS_POLL_INTERVAL`: how often the Events API is read; `None` = never.
    pub events_poll_interval: Option<Duration>,
}

/// What the webhook accepts.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// `WORKOS_WEBHOOK_SECRET`: at least one; several while a secret is rotated.
    pub secrets: Vec<Secret>,
    /// `WEBHOOK_TOLERANCE`: how far a signature's time may be from ours, into the past and the future.
    pub tolerance: Duration,
    /// `WEBHOOK_MAX_BODY_BYTES`.
    pub max_body_bytes: usize,
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `DATABASE_URL` and `DATABASE_SCHEMA`.
    pub database: DatabaseConfig,
    /// The WorkOS API.
    pub api: ApiConfig,
    /// The webhook.
    pub webhook: WebhookConfig,
    /// `RECONCILE_INTERVAL`; `None` if it is 0.
    pub reconcile_interval: Option<Duration>,
    /// `INBOX_RETENTION`: how long finished events are kept; `None` = for ever.
    pub inbox_retention: Option<Duration>,
    /// What the process does; `serve --role`.
    pub role: Role,
    /// `BIND_ADDR`.
    pub bind: SocketAddr,
    /// `HEALTH_TOKEN`: if set, `GET /health` and `GET /metrics` ask for it.
    pub health_token: Option<Secret>,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
}

/// Every variable the service reads, for `.env.example` and its test.
pub const VARIABLES: [&str; 17] = [
    "DATABASE_URL",
    "DATABASE_SCHEMA",
    "LEASE_TTL",
    "WORKOS_API_KEY",
    "WORKOS_WEBHOOK_SECRET",
    "WORKOS_API_BASE_URL",
    "WORKOS_API_REQUESTS_PER_MINUTE",
    "WORKOS_DIRECTORY_USERS_PER_SECOND",
    "EVENTS_POLL_INTERVAL",
    "BIND_ADDR",
    "WEBHOOK_TOLERANCE",
    "WEBHOOK_MAX_BODY_BYTES",
    "RECONCILE_INTERVAL",
    "INBOX_RETENTION",
    "HEALTH_TOKEN",
    "LOG_FORMAT",
    "RUST_LOG",
];

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigProblems(pub Vec<String>);

struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret)
    }

    /// Reads a value or takes the default; `wanted` says what a good one looks like.
    fn parse<T>(&mut self, name: &str, default: T, wanted: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        let Some(text) = self.text(name) else { return default };
        parse(&text).unwrap_or_else(|| {
            self.problems.push(format!("{name} is {text:?}: set it to {wanted}, or leave it out"));
            default
        })
    }
}

impl Config {
    /// Reads the configuration; `lookup` answers a variable's value.
    ///
    /// # Errors
    /// [`ConfigProblems`] with a line for each problem; no line shows a secret.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigProblems> {
        let mut reader = Reader { lookup, problems: Vec::new() };
        let config = Self {
            database: read_database(&mut reader),
            api: read_api(&mut reader),
            webhook: read_webhook(&mut reader),
            reconcile_interval: read_interval(&mut reader, "RECONCILE_INTERVAL", Duration::from_secs(6 * 3600)),
            inbox_retention: read_retention(&mut reader),
            role: Role::All,
            bind: read_bind(&mut reader),
            health_token: reader.secret("HEALTH_TOKEN"),
            log_format: reader.parse("LOG_FORMAT", LogFormat::Text, "text or json", |text| match text {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            }),
        };
        if reader.problems.is_empty() { Ok(config) } else { Err(ConfigProblems(reader.problems)) }
    }
}

/// Reads only what says where the database is, for commands that need nothing else.
///
/// # Errors
/// As [`Config::read`].
pub fn read_database_config(lookup: &dyn Fn(&str) -> Option<String>) -> Result<DatabaseConfig, ConfigProblems> {
    let mut reader = Reader { lookup, problems: Vec::new() };
    let database = read_database(&mut reader);
    if reader.problems.is_empty() { Ok(database) } else { Err(ConfigProblems(reader.problems)) }
}

/// Reads only what says where the API is, for commands that ask it.
///
/// # Errors
/// As [`Config::read`].
pub fn read_api_config(lookup: &dyn Fn(&str) -> Option<String>) -> Result<ApiConfig, ConfigProblems> {
    let mut reader = Reader { lookup, problems: Vec::new() };
    let api = read_api(&mut reader);
    if reader.problems.is_empty() { Ok(api) } else { Err(ConfigProblems(reader.problems)) }
}

/// Reads only how long finished events are kept; `None` = for ever.
///
/// # Errors
/// As [`Config::read`].
pub fn read_inbox_retention(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Duration>, ConfigProblems> {
    let mut reader = Reader { lookup, problems: Vec::new() };
    let retention = read_retention(&mut reader);
    if reader.problems.is_empty() { Ok(retention) } else { Err(ConfigProblems(reader.problems)) }
}

/// Reads only where the server listens, for commands that ask it.
///
/// # Errors
/// As [`Config::read`].
pub fn read_bind_config(lookup: &dyn Fn(&str) -> Option<String>) -> Result<SocketAddr, ConfigProblems> {
    let mut reader = Reader { lookup, problems: Vec::new() };
    let bind = read_bind(&mut reader);
    if reader.problems.is_empty() { Ok(bind) } else { Err(ConfigProblems(reader.problems)) }
}

fn read_bind(reader: &mut Reader<'_>) -> SocketAddr {
    reader.parse(
        "BIND_ADDR",
        SocketAddr::from(([127, 0, 0, 1], 8080)),
        "an address and a port such as 0.0.0.0:8080",
        |text| text.parse().ok(),
    )
}

fn read_api(reader: &mut Reader<'_>) -> ApiConfig {
    let base_url = reader.parse(
        "WORKOS_API_BASE_URL",
        "https://api.workos.com".to_owned(),
        "an http or https URL such as https://api.workos.com",
        |text| {
            let url = reqwest::Url::parse(text).ok()?;
            (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| text.trim_end_matches('/').to_owned())
        },
    );
    let mut limit =
        |name, default| reader.parse(name, default, "a whole number, 0 for no limit", |text| text.parse::<u32>().ok());
    let requests_per_minute = limit("WORKOS_API_REQUESTS_PER_MINUTE", 6000);
    let directory_users_per_second = limit("WORKOS_DIRECTORY_USERS_PER_SECOND", 4);
    let events_poll_interval = reader.parse(
        "EVENTS_POLL_INTERVAL",
        Duration::from_secs(60),
        "seconds, or a duration such as 90s or 3m; 0 for never",
        parse_duration,
    );
    let key = reader.secret("WORKOS_API_KEY");
    if key.as_ref().is_some_and(|key| reqwest::header::HeaderValue::from_str(key.expose()).is_err()) {
        reader.problems.push("WORKOS_API_KEY has characters that no key has: copy it again from WorkOS".to_owned());
    }
    ApiConfig {
        key,
        base_url,
        requests_per_minute,
        directory_users_per_second,
        events_poll_interval: Some(events_poll_interval).filter(|interval| !interval.is_zero()),
    }
}

fn read_webhook(reader: &mut Reader<'_>) -> WebhookConfig {
    let secrets: Vec<Secret> = reader
        .text("WORKOS_WEBHOOK_SECRET")
        .map(|text| text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(Secret::new).collect())
        .unwrap_or_default();
    if secrets.is_empty() {
        reader.problems.push(
            "WORKOS_WEBHOOK_SECRET is not set: without it anybody could post events; copy the endpoint's secret from \
             WorkOS's dashboard (several, separated by commas, while it is rotated)"
                .to_owned(),
        );
    }
    WebhookConfig {
        secrets,
        tolerance: reader.parse(
            "WEBHOOK_TOLERANCE",
            Duration::from_secs(180),
            "seconds above 0, or a duration such as 90s or 3m",
            |text| parse_duration(text).filter(|tolerance| !tolerance.is_zero()),
        ),
        max_body_bytes: reader.parse("WEBHOOK_MAX_BODY_BYTES", 8_388_608, "a number of bytes above 0", |text| {
            text.parse().ok().filter(|bytes| *bytes > 0)
        }),
    }
}

/// An interval, or none for 0.
fn read_interval(reader: &mut Reader<'_>, name: &str, default: Duration) -> Option<Duration> {
    let wanted = "seconds, or a duration such as 90s or 6h, or 0 for never";
    let longest = Duration::from_secs(366 * 86_400);
    let interval = reader.parse(name, default, wanted, |text| parse_duration(text).filter(|one| *one <= longest));
    (interval > Duration::ZERO).then_some(interval)
}

const DAY: Duration = Duration::from_secs(86_400);

/// The least that the inbox remembers. WorkOS sends an event again for up to 3 days: an inbox that forgets sooner would take
/// it for new.
pub const SHORTEST_INBOX_RETENTION: Duration = Duration::from_secs(3 * 86_400);

/// `INBOX_RETENTION`, at least [`SHORTEST_INBOX_RETENTION`].
fn read_retention(reader: &mut Reader<'_>) -> Option<Duration> {
    let wanted = "at least 3d (WorkOS sends events again for as long), such as 30d, or 0 for ever";
    let kept = reader.parse("INBOX_RETENTION", 30 * DAY, wanted, |text| {
        parse_duration(text).filter(|kept| kept.is_zero() || (SHORTEST_INBOX_RETENTION..=36_525 * DAY).contains(kept))
    });
    (!kept.is_zero()).then_some(kept)
}

/// Whole seconds, or a number with a unit (`90s`, `6h`).
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs).or_else(|| humantime::parse_duration(text).ok())
}

fn read_database(reader: &mut Reader<'_>) -> DatabaseConfig {
    let url = reader.text("DATABASE_URL").unwrap_or_else(|| "sqlite:directory-mirror.db".to_owned());
    let schema = reader.parse(
        "DATABASE_SCHEMA",
        "directory_sync".to_owned(),
        "a lower-case name of letters, digits and underscores",
        |text| is_plain_name(text).then(|| text.to_owned()),
    );
    let lease_ttl = reader.parse(
        "LEASE_TTL",
        Duration::from_secs(15),
        "seconds, or a duration such as 15s, from 1 s to 10 m",
        |text| parse_duration(text).filter(|ttl| (Duration::from_secs(1)..=Duration::from_secs(600)).contains(ttl)),
    );
    match parse_database_url(&url, schema, lease_ttl) {
        Ok(database) => database,
        Err(problem) => {
            // The URL may hold a password, so it is not repeated.
            reader.problems.push(format!("DATABASE_URL {problem}"));
            DatabaseConfig::Sqlite(PathBuf::from("directory-mirror.db"))
        }
    }
}

fn is_plain_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn parse_database_url(url: &str, schema: String, lease_ttl: Duration) -> Result<DatabaseConfig, String> {
    if let Some(rest) = url.strip_prefix("sqlite:") {
        let path = rest.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path == ":memory:" {
            return Err("names no file: the mirror has to outlive a restart, so set sqlite:/path/to/file.db".to_owned());
        }
        return Ok(DatabaseConfig::Sqlite(PathBuf::from(path)));
    }
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(
            "is of a kind we don't know: set sqlite:/path/to/file.db or postgres://user@host/database".to_owned()
        );
    }
    let mut parsed = reqwest::Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
    let mut verify_certificate = false;
    let mut root_certificate = None;
    let mut kept = Vec::new();
    for (name, value) in parsed.query_pairs() {
        match (name.as_ref(), value.as_ref()) {
            ("sslmode", "verify-full" | "verify-ca") => {
                verify_certificate = true;
                kept.push(("sslmode".to_owned(), "require".to_owned()));
            }
            ("sslrootcert", path) => root_certificate = Some(PathBuf::from(path)),
            (name, value) => kept.push((name.to_owned(), value.to_owned())),
        }
    }
    let kept_names: Vec<String> = kept.iter().map(|(name, _): &(String, String)| name.clone()).collect();
    parsed.set_query(None);
    if !kept.is_empty() {
        parsed.query_pairs_mut().extend_pairs(kept);
        // A form's way to write a space, which a connection string takes literally.
        let query = parsed.query().map(|query| query.replace('+', "%20"));
        parsed.set_query(query.as_deref());
    }
    let mut connection: tokio_postgres::Config =
        parsed.as_str().parse().map_err(|error: tokio_postgres::Error| format!("is not understood: {error}"))?;
    if connection.get_connect_timeout().is_none() {
        connection.connect_timeout(Duration::from_secs(5));
    }
    let says = |name: &str| kept_names.iter().any(|kept| kept == name);
    if !says("tcp_user_timeout") {
        connection.tcp_user_timeout(Duration::from_secs(10));
    }
    if !says("keepalives_idle") {
        connection.keepalives_idle(Duration::from_secs(10));
    }
    if !says("keepalives_interval") {
        connection.keepalives_interval(Duration::from_secs(5));
    }
    if !says("keepalives_retries") {
        connection.keepalives_retries(3);
    }
    if connection.get_application_name().is_none() {
        connection.application_name("directory-mirror");
    }
    Ok(DatabaseConfig::Postgres(Box::new(PostgresConfig {
        connection,
        schema,
        verify_certificate,
        root_certificate,
        lease_ttl,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigProblems> {
        let map: HashMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::read(&|name| map.get(name).cloned())
    }

    #[test]
    fn the_secret_is_all_that_must_be_set() {
        let config = read(&[("WORKOS_WEBHOOK_SECRET", "one, two")]).unwrap();
        assert_eq!(config.webhook.secrets.len(), 2);
        assert_eq!(config.webhook.tolerance, Duration::from_secs(180));
        assert!(matches!(config.database, DatabaseConfig::Sqlite(path) if path.ends_with("directory-mirror.db")));
        assert!(config.api.key.is_none());
        assert_eq!(config.api.events_poll_interval, Some(Duration::from_secs(60)));
    }

    #[test]
    fn the_poller_is_switched_off_by_zero() {
        let interval = |text| read(&[("WORKOS_WEBHOOK_SECRET", "s"), ("EVENTS_POLL_INTERVAL", text)]).unwrap().api;
        assert_eq!(interval("0").events_poll_interval, None);
        assert_eq!(interval("0s").events_poll_interval, None);
        assert_eq!(interval("100ms").events_poll_interval, Some(Duration::from_millis(100)));
    }

    #[test]
    fn the_inbox_keeps_events_for_as_long_as_workos_repeats_them_or_for_ever() {
        let day = Duration::from_secs(86_400);
        let kept = |text| read(&[("WORKOS_WEBHOOK_SECRET", "s"), ("INBOX_RETENTION", text)]);
        for (text, expected) in
            [("", Some(30 * day)), ("0", None), ("3d", Some(3 * day)), ("1y", Some(365 * day + day / 4))]
        {
            assert_eq!(kept(text).unwrap().inbox_retention, expected, "{text}");
        }
        for text in ["1d", "71h", "soon", "1000y"] {
            assert!(kept(text).unwrap_err().0[0].starts_with("INBOX_RETENTION"), "{text}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_and_no_secret_is_shown() {
        let problems = read(&[
            ("DATABASE_URL", "mysql://root:hunter2@db/x"),
            ("DATABASE_SCHEMA", "Robert'); DROP"),
            ("LEASE_TTL", "0"),
            ("WORKOS_API_KEY", "sk_hunter2\u{7}"),
            ("WORKOS_API_BASE_URL", "api.workos.com"),
            ("WORKOS_API_REQUESTS_PER_MINUTE", "-1"),
            ("EVENTS_POLL_INTERVAL", "often"),
            ("BIND_ADDR", "8080"),
            ("WEBHOOK_TOLERANCE", "0"),
            ("WEBHOOK_MAX_BODY_BYTES", "0"),
            ("RECONCILE_INTERVAL", "often"),
            ("INBOX_RETENTION", "soon"),
            ("LOG_FORMAT", "xml"),
        ])
        .unwrap_err();
        assert_eq!(problems.0.len(), 14, "{problems}");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
        for name in VARIABLES.iter().filter(|name| !matches!(**name, "HEALTH_TOKEN" | "RUST_LOG")) {
            if *name != "WORKOS_DIRECTORY_USERS_PER_SECOND" {
                assert!(problems.to_string().contains(name), "{name} is missing from: {problems}");
            }
        }
    }

    #[test]
    fn database_urls_of_every_form_are_read() {
        for (url, path) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite:///var/a.db?mode=rwc", "/var/a.db"),
            ("sqlite://a.db", "a.db"),
        ] {
            let parsed = parse_database_url(url, "s".to_owned(), Duration::from_secs(15)).unwrap();
            assert!(matches!(&parsed, DatabaseConfig::Sqlite(p) if p == &PathBuf::from(path)), "{url}: {parsed:?}");
        }
        let url = "postgres://u:p@h:5433/d?sslmode=verify-full&sslrootcert=/ca.pem";
        let Ok(DatabaseConfig::Postgres(postgres)) = parse_database_url(url, "s".to_owned(), Duration::from_secs(15))
        else {
            panic!("{url}")
        };
        assert!(postgres.verify_certificate);
        assert_eq!(postgres.root_certificate, Some(PathBuf::from("/ca.pem")));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let connection = &postgres.connection;
        assert_eq!(connection.get_tcp_user_timeout(), seconds(10).as_ref());
        assert_eq!(connection.get_keepalives_idle(), Duration::from_secs(10));
        assert_eq!(connection.get_keepalives_interval(), seconds(5));
        assert_eq!(connection.get_keepalives_retries(), Some(3));
        let url = "postgres://u@h/d?tcp_user_timeout=60&keepalives_idle=7200";
        let Ok(DatabaseConfig::Postgres(postgres)) = parse_database_url(url, "s".to_owned(), Duration::from_secs(15))
        else {
            panic!("{url}")
        };
        assert_eq!(postgres.connection.get_tcp_user_timeout(), seconds(60).as_ref(), "what the URL says goes before");
        assert_eq!(postgres.connection.get_keepalives_idle(), Duration::from_secs(7200));
        let url = "postgres://u@h/d?options=-c%20statement_timeout%3D60s%20-c%20application_name%3Da%2Bb";
        let Ok(DatabaseConfig::Postgres(postgres)) = parse_database_url(url, "s".to_owned(), Duration::from_secs(15))
        else {
            panic!("{url}")
        };
        assert_eq!(postgres.connection.get_options(), Some("-c statement_timeout=60s -c application_name=a+b"));
        assert!(parse_database_url("sqlite::memory:", "s".to_owned(), Duration::from_secs(15)).is_err());
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        assert_eq!(parse_duration("90"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("6h"), Some(Duration::from_secs(6 * 3600)));
        assert_eq!(parse_duration("x"), None);
    }
}
