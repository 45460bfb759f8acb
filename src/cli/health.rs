//! `directory-mirror health`: asks a running server whether it can work, for containers without curl.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Url;

use super::{CommandError, own_server, serve};
use crate::config;
use crate::telemetry;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const READY: &str = "/health/ready";

#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// The server, or the whole URL of a probe; otherwise by BIND_ADDR
    #[arg(long, value_parser = parse_url)]
    url: Option<Url>,
}

/// Reads `--url`. One without a path is a server of ours.
fn parse_url(text: &str) -> Result<Url, &'static str> {
    let url = text.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let mut url = url.ok_or("give an http or https URL such as http://127.0.0.1:8080")?;
    if url.path() == "/" {
        url.set_path(READY);
    }
    Ok(url)
}

/// 0 if it can work, 1 if not.
pub(super) async fn run(arguments: HealthArguments) -> Result<ExitCode, CommandError> {
    let url = match arguments.url {
        Some(url) => url,
        None => own_url()?,
    };
    // Fails if there is one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let failed = |error: reqwest::Error| CommandError::NotHealthy(telemetry::root_cause(&error));
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().map_err(failed)?;
    let answer = client.get(url).send().await.map_err(failed)?;
    let status = answer.status();
    let body = answer.text().await.map_err(failed)?;
    if status.is_success() {
        say!("{body}");
        return Ok(ExitCode::SUCCESS);
    }
    Err(CommandError::NotHealthy(format!("{status}: {body}")))
}

fn own_url() -> Result<Url, CommandError> {
    serve::read_dotenv()?;
    let bind = config::read_bind_config(&|name| std::env::var(name).ok())?;
    let address = own_server::address(bind).ok_or_else(|| {
        CommandError::Usage("BIND_ADDR leaves the port open: name the server's with --url".to_owned())
    })?;
    Ok(Url::parse(&format!("http://{address}{READY}")).expect("an address and a port make a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_or_a_probe() {
        assert_eq!(parse_url("http://127.0.0.1:81").unwrap().as_str(), "http://127.0.0.1:81/health/ready");
        assert_eq!(parse_url("http://[::1]:81/health/live").unwrap().as_str(), "http://[::1]:81/health/live");
        for url in ["127.0.0.1:8080", "ftp://host", "x"] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }
}
