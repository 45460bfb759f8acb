//! Connections to PostgreSQL, with TLS by rustls.
//!
//! tokio-postgres knows `sslmode` disable, prefer and require, and checks no certificate by itself; `verify-full` is
//! ours: it requires TLS and checks the certificate and the host's name against the platform's trust store, or against
//! `sslrootcert`.

use std::sync::Arc;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::PostgresConfig;
use crate::telemetry;

/// How long a statement may run, and wait for a lock, unless the URL's `options` say something else. No statement of ours
/// takes a second on a healthy server.
const TIMEOUTS: [(&str, &str); 2] = [("statement_timeout", "30s"), ("lock_timeout", "10s")];

/// Connects and prepares the session: our schema first on the search path, a commit that is durable whatever the
/// server's default, and an end to statements that hang. Set by a statement rather than by start-up options, which
/// poolers such as PgBouncer refuse.
pub async fn connect(config: &PostgresConfig) -> ConnectionResult<AsyncPgConnection> {
    let mut connection = connect_without_timeouts(config).await?;
    let options = config.connection.get_options().unwrap_or_default();
    let ours = TIMEOUTS.iter().filter(|(name, _)| !options.contains(name));
    let timeouts: String = ours.map(|(name, value)| format!("SET {name} = '{value}';")).collect();
    if !timeouts.is_empty() {
        connection.batch_execute(&timeouts).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    }
    Ok(connection)
}

/// As [`connect`], for migrations: they may run for as long as they need, and wait for each other.
pub async fn connect_without_timeouts(config: &PostgresConfig) -> ConnectionResult<AsyncPgConnection> {
    let tls = MakeRustlsConnect::new(tls_config(config).map_err(ConnectionError::BadConnection)?);
    let failed = |error| ConnectionError::BadConnection(telemetry::root_cause(&error));
    let (client, connection) = config.connection.connect(tls).await.map_err(failed)?;
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
    // A process that sleeps within a transaction is cut off before its leases end.
    let idle = (config.lease_ttl / 2).as_millis().clamp(100, 10_000);
    let session = format!(
        "SET search_path TO \"{}\"; SET synchronous_commit = on; SET idle_in_transaction_session_timeout = {idle}",
        config.schema
    );
    connection.batch_execute(&session).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

fn tls_config(config: &PostgresConfig) -> Result<ClientConfig, String> {
    if let Some(path) = &config.root_certificate {
        let refused = |error: &dyn std::fmt::Display| format!("sslrootcert {}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refused(&error))? {
            let certificate = certificate.map_err(|error| refused(&error))?;
            roots.add(certificate).map_err(|error| refused(&error))?;
        }
        return Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    }
    if config.verify_certificate {
        return ClientConfig::with_platform_verifier().map_err(|error| error.to_string());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unchecked = Arc::new(Unchecked(Arc::clone(&provider)));
    Ok(ClientConfig::builder().dangerous().with_custom_certificate_verifier(unchecked).with_no_client_auth())
}

/// `sslmode=prefer` and `require` encrypt without asking who is there, as libpq does.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
