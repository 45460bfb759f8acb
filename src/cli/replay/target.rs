//! Where events are posted, and with which secret.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::Url;

use crate::cli::own_server;
use crate::config::{Config, ConfigProblems, Secret};
use crate::webhook;

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// What `serve` would object to as well.
    #[error("{0}\n(replay takes --url and --secret as well)")]
    Config(#[from] ConfigProblems),
    /// Port 0 stands for any free port.
    #[error("BIND_ADDR leaves the port open: name the server's with --url")]
    OpenPort,
}

/// A webhook endpoint.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Where events are posted.
    pub(super) url: Url,
    /// What they are signed with.
    pub(super) secret: Secret,
    /// How long a signature holds, if the server is configured as we are.
    pub(super) tolerance: Duration,
}

impl Target {
    /// What was named, and the rest as `serve` reads it; `lookup` answers a variable's value.
    ///
    /// # Errors
    /// [`TargetError`]; no line shows a secret.
    pub(super) fn find(
        url: Option<&Url>,
        secret: Option<&Secret>,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, TargetError> {
        // Of the server's configuration only what a sender needs: the rest may be set elsewhere.
        let config = Config::read(&|name| match (name, secret) {
            ("WORKOS_WEBHOOK_SECRET", Some(secret)) => Some(secret.expose().to_owned()),
            ("BIND_ADDR", _) if url.is_some() => None,
            ("WORKOS_WEBHOOK_SECRET" | "BIND_ADDR" | "WEBHOOK_TOLERANCE", _) => lookup(name),
            _ => None,
        })?;
        let url = match url {
            Some(url) => url.clone(),
            None => own_url(config.bind)?,
        };
        // The configuration has at least one.
        let secret = secret.or(config.webhook.secrets.first()).cloned().unwrap_or_else(|| Secret::new(""));
        Ok(Self { url, secret, tolerance: config.webhook.tolerance })
    }

    /// The URL without what may be confidential in it.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }

    /// Whether it is on this machine, where no proxy stands between.
    pub(super) fn is_local(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

/// Where a server that listens on `bind` is reached from this machine.
fn own_url(bind: SocketAddr) -> Result<Url, TargetError> {
    let address = own_server::address(bind).ok_or(TargetError::OpenPort)?;
    let url = format!("http://{address}{}", webhook::PATH);
    Ok(Url::parse(&url).expect("an address and a port make a URL"))
}

/// Reads `--url`. One without a path is a server of ours, whose path is known.
pub(super) fn parse_url(text: &str) -> Result<Url, &'static str> {
    let wanted = "give an http or https URL such as http://127.0.0.1:8080";
    let mut url = Url::parse(text).map_err(|_| wanted)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wanted);
    }
    if url.path() == "/" {
        url.set_path(webhook::PATH);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(url: Option<&str>, secret: Option<&str>, variables: &[(&str, &str)]) -> Result<Target, String> {
        let (url, secret) = (url.map(|url| parse_url(url).unwrap()), secret.map(Secret::new));
        let lookup =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Target::find(url.as_ref(), secret.as_ref(), &lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_with_the_same_configuration_is_found() {
        let secret = ("WORKOS_WEBHOOK_SECRET", " new , old ");
        for (bind, url) in [
            (None, "http://127.0.0.1:8080/api/webhooks/workos/directory-sync"),
            (Some("0.0.0.0:81"), "http://127.0.0.1:81/api/webhooks/workos/directory-sync"),
            (Some("[::]:81"), "http://[::1]:81/api/webhooks/workos/directory-sync"),
            (Some("10.1.2.3:81"), "http://10.1.2.3:81/api/webhooks/workos/directory-sync"),
        ] {
            let variables: Vec<_> = [secret].into_iter().chain(bind.map(|bind| ("BIND_ADDR", bind))).collect();
            let target = find(None, None, &variables).unwrap();
            assert_eq!((target.url.as_str(), target.secret.expose()), (url, "new"));
            assert_eq!(target.is_local(), bind != Some("10.1.2.3:81"));
        }
        assert!(find(None, None, &[secret, ("BIND_ADDR", "127.0.0.1:0")]).unwrap_err().contains("--url"));
    }

    #[test]
    fn options_win_and_what_is_not_needed_is_not_judged() {
        let variables = [("BIND_ADDR", "nowhere"), ("DATABASE_URL", "mysql://x"), ("WORKOS_WEBHOOK_SECRET", "a")];
        let target = find(Some("https://u:p@host.example:9"), Some("b,c"), &variables).unwrap();
        assert_eq!(target.secret.expose(), "b,c");
        assert_eq!(target.shown(), "https://host.example:9/api/webhooks/workos/directory-sync");
        let target = find(Some("http://[::1]:9/hook?x=1"), None, &variables).unwrap();
        assert_eq!((target.url.as_str(), target.is_local()), ("http://[::1]:9/hook?x=1", true));
        assert!(find(None, None, &variables).unwrap_err().contains("BIND_ADDR"));
        assert!(find(None, None, &[]).unwrap_err().contains("WORKOS_WEBHOOK_SECRET"));
        for url in ["127.0.0.1:8080", "ftp://host", "x"] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }
}
