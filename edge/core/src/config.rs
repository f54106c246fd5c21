//! The edge's configuration. The host reads it from its platform's variables and secrets.

use std::fmt;

use optimist_shared::live::DEFAULT_STREAMS;
use optimist_shared::presence::{DEFAULT_LEASE_SECONDS, LEASE_SECONDS};

use crate::proxies::TrustedProxies;

/// Settings of an edge. [`Config::from_lookup`] lists their names.
#[derive(Clone, Debug)]
pub struct Config {
    /// This region's name, as in the origin's configuration.
    pub region: String,
    /// Base URL of the region's origin, without a trailing slash.
    pub origin_url: String,
    /// URL of the region's Redis: `rediss://`, or `redis://` on the loopback.
    pub redis_url: String,
    /// Keys that sign forwarded requests: the first one is used.
    pub signing_keys: Vec<(String, Vec<u8>)>,
    /// Origins (scheme, host, port) whose pages may call the API from a browser; `*` for any.
    pub cors_origins: Vec<String>,
    /// Proxies before the edge that tell their clients' addresses by `X-Forwarded-For`.
    pub trusted_proxies: TrustedProxies,
    /// Milliseconds that a trip to Redis may take.
    pub redis_deadline_ms: u32,
    /// Redis is a cluster: no script may take keys of two slots.
    pub redis_cluster: bool,
    /// Milliseconds until the origin's answer must begin.
    pub origin_deadline_ms: u32,
    /// Seconds that a device counts as present after it has said so.
    pub presence_lease_s: u32,
    /// Event streams through this edge at once, on hosts where each holds memory (Spin).
    pub streams: u32,
    /// Connections to Redis per region, on hosts that use several (Durable Objects).
    pub redis_objects: u32,
    /// The location that those hosts request for them, in the platform's names: near Redis, not near the first client.
    pub redis_location: Option<String>,
    /// Mechanisms that a test switches off, comma-separated.
    #[cfg(feature = "test-hooks")]
    pub disabled: String,
}

/// A variable is missing or malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub variable: &'static str,
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.reason)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads every setting by its variable's name in lower case (`region`, `origin_url`, `redis_url`, `signing_keys` as
    /// `id:base64,…`, `cors_origins` and `trusted_proxies` comma-separated, `redis_deadline_ms`, `origin_deadline_ms`, `redis_cluster` as
    /// `true` or `false`, `presence_lease_s`, `streams`, `redis_objects`, `redis_location`). An absent or empty value takes the default,
    /// where there is one. Hosts whose variables have other names (upper case with the prefix `OPTIMIST_`) map them.
    #[inline(never)] // Once in an instance's life: see [`crate::passage::apart`].
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Config, ConfigError> {
        let get = |name: &'static str| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let required = |name: &'static str| {
            get(name).ok_or(ConfigError { variable: name, reason: "is required".to_owned() })
        };
        let number = |name: &'static str, default: u32| match get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or(ConfigError { variable: name, reason: format!("{text:?} is not a positive number") }),
        };
        let flag = |name: &'static str| match get(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => {
                Err(ConfigError { variable: name, reason: format!("{text:?} is neither `true` nor `false`") })
            }
        };
        let signing_keys = parse_signing_keys(&required("signing_keys")?)?;
        Ok(Config {
            region: region(required("region")?)?,
            origin_url: origin_url(&required("origin_url")?)?,
            redis_url: redis_url(required("redis_url")?)?,
            signing_keys,
            cors_origins: get("cors_origins")
                .map(|list| list.split(',').map(|o| o.trim().to_owned()).filter(|o| !o.is_empty()).collect())
                .unwrap_or_default(),
            trusted_proxies: TrustedProxies::parse(&get("trusted_proxies").unwrap_or_default()).ok_or(
                ConfigError {
                    variable: "trusted_proxies",
                    reason: "wants networks as 192.0.2.0/24 and 2001:db8::/32, separated by commas"
                        .to_owned(),
                },
            )?,
            redis_deadline_ms: number("redis_deadline_ms", 100)?,
            redis_cluster: flag("redis_cluster")?,
            origin_deadline_ms: number("origin_deadline_ms", 10_000)?,
            presence_lease_s: presence_lease(number("presence_lease_s", DEFAULT_LEASE_SECONDS)?)?,
            streams: number("streams", DEFAULT_STREAMS)?,
            redis_objects: number("redis_objects", 16)?,
            redis_location: get("redis_location"),
            #[cfg(feature = "test-hooks")]
            disabled: get("disabled").unwrap_or_default(),
        })
    }

    /// Whether a test has switched a mechanism off. Always false without the feature `test-hooks`.
    #[cfg(feature = "test-hooks")]
    pub fn is_disabled(&self, mechanism: &str) -> bool {
        self.disabled.split(',').any(|name| name == mechanism)
    }

    #[cfg(not(feature = "test-hooks"))]
    pub const fn is_disabled(&self, _mechanism: &str) -> bool {
        false
    }
}

/// As the origin's.
fn region(name: String) -> Result<String, ConfigError> {
    if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return Ok(name);
    }
    let reason = "may hold lower-case letters, digits and `-`".to_owned();
    Err(ConfigError { variable: "region", reason })
}

/// Scheme and authority: a request's own path is appended.
fn origin_url(url: &str) -> Result<String, ConfigError> {
    let url = url.trim_end_matches('/');
    let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_default();
    let is_authority = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte);
    if !authority.is_empty() && authority.bytes().all(is_authority) {
        return Ok(url.to_owned());
    }
    let reason = "must be `http://` or `https://` with host and port, and nothing more".to_owned();
    Err(ConfigError { variable: "origin_url", reason })
}

/// Refuses a Redis URL that would go through a network in the clear.
fn redis_url(url: String) -> Result<String, ConfigError> {
    let refused = |reason: &str| Err(ConfigError { variable: "redis_url", reason: reason.to_owned() });
    let (is_encrypted, rest) = match (url.strip_prefix("rediss://"), url.strip_prefix("redis://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return refused("must begin with `rediss://`, or `redis://` on the loopback"),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // With a port, or without one.
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match (is_encrypted, is_loopback) {
        _ if host.is_empty() => refused("must name a host"),
        (false, false) => refused("must begin with `rediss://`, except on the loopback"),
        _ => Ok(url),
    }
}

fn presence_lease(seconds: u32) -> Result<u32, ConfigError> {
    let reason = format!("wants {} to {} seconds", LEASE_SECONDS.start(), LEASE_SECONDS.end());
    let error = ConfigError { variable: "presence_lease_s", reason };
    LEASE_SECONDS.contains(&seconds).then_some(seconds).ok_or(error)
}

fn parse_signing_keys(text: &str) -> Result<Vec<(String, Vec<u8>)>, ConfigError> {
    use base64::Engine as _;
    let error = |reason: &str| ConfigError { variable: "signing_keys", reason: reason.to_owned() };
    let mut keys = Vec::new();
    for part in text.split(',') {
        let (id, key) = part.trim().split_once(':').ok_or_else(|| error("wants id:base64,…"))?;
        let key = base64::engine::general_purpose::STANDARD
            .decode(key)
            .map_err(|_| error("holds a key that is not base64"))?;
        if key.len() < 32 {
            return Err(error("holds a key shorter than 32 bytes"));
        }
        keys.push((id.to_owned(), key));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_asked_for_tls_off_the_loopback() {
        let near =
            ["redis://127.0.0.1:1", "redis://u:p@localhost/0", "redis://[::1]:1", "rediss://redis.internal"];
        for url in near {
            assert!(redis_url(url.to_owned()).is_ok(), "{url}");
        }
        for url in [
            "redis://redis.internal:6379",
            "redis://127.0.0.1@192.0.2.1",
            "redis://192.0.2.1/localhost",
            "redis://",
            "rediss://",
            "rediss://:6379",
            "redis.internal:6379",
            "http://127.0.0.1:6379",
        ] {
            assert_eq!(
                redis_url(url.to_owned()).err().map(|error| error.variable),
                Some("redis_url"),
                "{url}"
            );
        }
    }

    #[test]
    fn the_origin_has_a_scheme_and_no_path() {
        for url in ["http://127.0.0.1:8080", "https://origin.internal/", "http://[::1]:80"] {
            assert_eq!(origin_url(url).unwrap(), url.trim_end_matches('/'));
        }
        for url in [
            "origin.internal:8080",
            "//origin.internal",
            "ftp://origin.internal",
            "http://",
            "http:///v1",
            "https://origin.internal/v1",
            "https://origin.internal?x",
            "https://user@origin.internal",
            "https://origin .internal",
        ] {
            assert_eq!(origin_url(url).err().map(|error| error.variable), Some("origin_url"), "{url}");
        }
    }

    #[test]
    fn a_region_has_the_origins_alphabet() {
        assert!(region("eu-1".to_owned()).is_ok());
        for name in ["EU", "eu 1", "e\u{fc}"] {
            assert!(region(name.to_owned()).is_err(), "{name}");
        }
    }
}
