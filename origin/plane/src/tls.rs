//! TLS to the stores: whose certificates count, and where it is required.
//!
//! Off the loopback every connection is encrypted, and the server shows a certificate for its name: Postgres's own default
//! would go on in the clear with whoever answers. The authorities are the public ones, or those of a setting.

use ::redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisResult, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Certificates of authorities that count instead of the public ones.
#[derive(Clone)]
pub struct Authorities {
    pem: Vec<u8>,
    roots: RootCertStore,
}

impl Authorities {
    /// From a file, if one is named. The error is a reason for the setting.
    pub fn read(file: Option<String>) -> Result<Option<Authorities>, String> {
        let Some(file) = file.filter(|file| !file.trim().is_empty()) else { return Ok(None) };
        let pem = std::fs::read(file).map_err(|why| format!("cannot be read: {why}"))?;
        Ok(Some(Authorities::parse(pem)?))
    }

    /// From PEM: at least one certificate. The error is a reason for the setting.
    pub fn parse(pem: Vec<u8>) -> Result<Authorities, &'static str> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| "is not in PEM")?;
            roots.add(certificate).map_err(|_| "holds what is not an authority's certificate")?;
        }
        if roots.is_empty() { Err("holds no certificate in PEM") } else { Ok(Authorities { pem, roots }) }
    }
}

/// How connections to Postgres are encrypted.
pub fn connector(authorities: Option<&Authorities>) -> MakeRustlsConnect {
    match authorities {
        Some(authorities) => MakeRustlsConnect::new(
            ClientConfig::builder().with_root_certificates(authorities.roots.clone()).with_no_client_auth(),
        ),
        None => MakeRustlsConnect::with_webpki_roots(),
    }
}

/// The settings of a Postgres URL, with TLS required off the loopback and where authorities are given. The error is a reason
/// for the setting.
pub fn postgres(
    url: &str,
    authorities: Option<&Authorities>,
) -> Result<tokio_postgres::Config, &'static str> {
    let mut config: tokio_postgres::Config = url.parse().map_err(|_| "is not a Postgres URL")?;
    let is_near = |host: &Host| match host {
        Host::Tcp(host) => is_loopback(host),
        Host::Unix(_) => true,
    };
    // An address, where one is given, stands for the host of its place.
    let all_near = if config.get_hostaddrs().is_empty() {
        config.get_hosts().iter().all(is_near)
    } else {
        config.get_hostaddrs().iter().all(|address| address.is_loopback())
    };
    if all_near && authorities.is_none() {
        return Ok(config);
    }
    if config.get_ssl_mode() == SslMode::Disable {
        return Err("must not disable TLS, except on the loopback and without an authority");
    }
    config.ssl_mode(SslMode::Require);
    Ok(config)
}

/// The client of a Redis URL, which must be `rediss://` off the loopback and where authorities are given.
pub fn redis(url: impl IntoConnectionInfo, authorities: Option<&Authorities>) -> RedisResult<Client> {
    match authorities {
        Some(Authorities { pem, .. }) => {
            let root_cert = Some(pem.clone());
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert })
        }
        None => Client::open(url),
    }
}

/// The reason for which a Redis URL is refused, if it is.
pub fn refusal_of_redis(url: &str, authorities: Option<&Authorities>) -> Option<&'static str> {
    let Ok(client) = Client::open(url) else { return Some("is not a Redis URL") };
    match client.get_connection_info().addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => Some("must not end in `#insecure`"),
        ConnectionAddr::TcpTls { .. } => None,
        _ if authorities.is_some() => Some("must begin with `rediss://` where an authority is given"),
        ConnectionAddr::Tcp(host, _) if !is_loopback(host) => {
            Some("must begin with `rediss://`, except on the loopback")
        }
        _ => None,
    }
}

/// The settings of other connections: the public authorities count, unless others are given.
pub fn client(authorities: Option<&Authorities>) -> Result<ClientConfig, rustls::Error> {
    let public = || RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let roots = authorities.map_or_else(public, |authorities| authorities.roots.clone());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Whether the authority that a URL without its scheme begins with is this machine.
pub fn is_near(url: &str) -> bool {
    let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    is_loopback(host.rsplit_once(':').map_or(host, |(host, _)| host))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode, &'static str> {
        postgres(url, None).map(|config| config.get_ssl_mode())
    }

    #[test]
    fn off_the_loopback_postgres_is_asked_for_tls() {
        for near in ["localhost", "127.0.0.1", "127.8.0.1:5433", "%2Frun%2Fpostgresql"] {
            assert_eq!(mode(&format!("postgres://serve@{near}/optimist")), Ok(SslMode::Prefer), "{near}");
            assert_eq!(
                mode(&format!("postgres://serve@{near}/optimist?sslmode=disable")),
                Ok(SslMode::Disable)
            );
        }
        for far in ["db.internal", "192.0.2.1", "localhost,db.internal", "localhost.example.org"] {
            for mode_asked in ["", "?sslmode=prefer", "?sslmode=require"] {
                let url = format!("postgres://serve@{far}/optimist{mode_asked}");
                assert_eq!(mode(&url), Ok(SslMode::Require), "{url}");
            }
            assert!(mode(&format!("postgres://serve@{far}/optimist?sslmode=disable")).is_err(), "{far}");
        }
        assert!(mode("postgres://serve@localhost/optimist?hostaddr=192.0.2.1&sslmode=disable").is_err());
        assert!(mode("nonsense").is_err());
    }

    #[test]
    fn off_the_loopback_redis_is_asked_for_tls() {
        for good in ["redis://127.0.0.1", "redis://localhost:1", "redis://[::1]:1", "rediss://redis.internal"]
        {
            assert_eq!(refusal_of_redis(good, None), None, "{good}");
        }
        for bad in
            ["redis://redis.internal", "redis://192.0.2.1:1", "rediss://redis.internal/#insecure", "nonsense"]
        {
            assert!(refusal_of_redis(bad, None).is_some(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for bad in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Authorities::parse(bad.as_bytes().to_vec()).is_err(), "{bad}");
        }
    }
}
