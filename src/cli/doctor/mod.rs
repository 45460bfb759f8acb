//! `directory-mirror doctor`: examines a set-up, a line for each thing that has to be right, with its remedy.
//!
//! Facts are gathered here; what they mean is decided in `checks` and `endpoint`, without effects.

mod checks;
mod endpoint;
mod finding;

use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use self::checks::File;
use self::finding::{Finding, Severity};
use super::{own_server, serve};
use crate::clock::Clock;
use crate::config::{self, ApiConfig, Config, DatabaseConfig, Secret};
use crate::db::{Db, DirectoryHealth, pending_migrations};
use crate::workos::WorkosClient;

/// How long a server of ours may take to say that it is ready.
const SERVER_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// 0 if all is well, 1 if the worst is a warning, 2 if something does not work.
pub(super) async fn run(arguments: DoctorArguments) -> ExitCode {
    let findings = examine().await;
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    if arguments.json {
        say!("{:#}", json!({"checks": findings, "worst": worst}));
    } else {
        findings.iter().for_each(print);
    }
    ExitCode::from(worst.exit_status())
}

fn print(finding: &Finding) {
    let remedy = finding.remedy.as_deref().map(|remedy| format!(" → {remedy}")).unwrap_or_default();
    say!("{:<8} {:<17} {}{remedy}", finding.severity.as_str(), finding.check, finding.message);
}

async fn examine() -> Vec<Finding> {
    // Fails if there is one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lookup = |name: &str| std::env::var(name).ok();
    let dotenv = serve::read_dotenv().err().map(|error| error.to_string());
    let config = Config::read(&lookup);
    let mut findings = checks::configuration(dotenv, config.as_ref().err());
    let rows = match config
        .as_ref()
        .map(|config| config.database.clone())
        .or_else(|_| config::read_database_config(&lookup))
    {
        Ok(database) => examine_database(&database, &mut findings).await,
        Err(_) => {
            findings.push(Finding::skipped(checks::DATABASE, "DATABASE_URL cannot be used"));
            findings.push(Finding::skipped(checks::MIGRATIONS, "DATABASE_URL cannot be used"));
            None
        }
    };
    let Ok(config) = config else {
        let rest =
            [checks::SECRET, checks::KEY, checks::DIRECTORIES, endpoint::ENDPOINT, checks::CLOCK, checks::LIMITS];
        findings.extend(rest.map(|check| Finding::skipped(check, "the configuration cannot be used")));
        return findings;
    };
    findings.extend(checks::secrets(&config.webhook.secrets));
    examine_api(&config, rows.as_deref(), &mut findings).await;
    findings.push(examine_server(&config).await);
    findings
}

/// Answers the directories that the mirror knows, if it can be asked.
async fn examine_database(config: &DatabaseConfig, findings: &mut Vec<Finding>) -> Option<Vec<DirectoryHealth>> {
    let pending = pending_migrations(config).await;
    findings.push(checks::database(config, look_at_file(config), pending.as_ref().err()));
    let Ok(pending) = pending else {
        findings.push(Finding::skipped(checks::MIGRATIONS, "the database does not answer"));
        return None;
    };
    findings.push(checks::migrations(&pending));
    if !pending.is_empty() {
        return None;
    }
    let known = Db::connect(config).ok()?.directory_health().await.ok()?;
    findings.extend(checks::brake(&known));
    Some(known)
}

fn look_at_file(config: &DatabaseConfig) -> File {
    let DatabaseConfig::Sqlite(path) = config else { return File::Usable };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match (path.exists(), folder.is_none_or(Path::is_dir)) {
        (_, false) => File::WithoutFolder,
        (false, true) => File::Missing,
        (true, true) if OpenOptions::new().append(true).open(path).is_ok() => File::Usable,
        (true, true) => File::ReadOnly,
    }
}

async fn examine_api(config: &Config, known: Option<&[DirectoryHealth]>, findings: &mut Vec<Finding>) {
    // Our own limits are for the service's endurance; a handful of requests need not wait for them.
    let api = ApiConfig { requests_per_minute: 0, directory_users_per_second: 0, ..config.api.clone() };
    let client = match WorkosClient::new(&api, Clock::system()) {
        Ok(Some(client)) => client,
        Ok(None) => return findings.extend(checks::without_a_key()),
        Err(error) => return findings.push(checks::unreachable(&error)),
    };
    let listing = match client.look_at_directories().await {
        Ok(listing) => listing,
        Err(error) => {
            findings.push(checks::unreachable(&error));
            let rest = [checks::DIRECTORIES, endpoint::ENDPOINT, checks::CLOCK, checks::LIMITS];
            findings.extend(rest.map(|check| Finding::skipped(check, "the API cannot be reached")));
            return;
        }
    };
    let key = api.key.as_ref().map(Secret::expose).unwrap_or_default();
    findings.push(checks::key(key, &listing));
    findings.push(checks::directories(&listing, known));
    if listing.is_complete() {
        match client.look_at_webhook_endpoints().await {
            Ok(endpoints) => findings.extend(endpoint::check(&endpoints, &config.webhook.secrets)),
            Err(error) => findings.push(Finding::skipped(endpoint::ENDPOINT, &error.to_string())),
        }
    } else {
        findings.push(Finding::skipped(endpoint::ENDPOINT, "the API does not answer as it should"));
    }
    findings.push(checks::clock(&listing.last, config.webhook.tolerance));
    findings.push(checks::limits(&listing.last, &config.api));
}

async fn examine_server(config: &Config) -> Finding {
    let address = own_server::address(config.bind).unwrap_or(config.bind);
    let client = reqwest::Client::builder().timeout(SERVER_PATIENCE).no_proxy().build();
    let answer = match client {
        Ok(client) => client.get(format!("http://{address}/health/ready")).send().await.ok(),
        Err(_) => None,
    };
    checks::server(&address.to_string(), answer.map(|answer| answer.status().as_u16()))
}
