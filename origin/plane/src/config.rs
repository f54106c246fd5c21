//! The origin's configuration: the environment over an optional TOML file, validated before anything starts.
//!
//! A domain names the secret keys that only it uses (see [`crate::domain::Domain::key_rings`]).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use figment::value::Value;
use optimist_shared::presence::{DEFAULT_LEASE_SECONDS, LEASE_SECONDS};
use serde::Deserialize;

use crate::archive::settings::{Ages, refusal};
pub use crate::key_rings::Keys;
use crate::key_rings::key_ring;
use crate::outgoing::settings as outgoing;
use crate::tls::{self, Authorities};

/// Settings as they are written. In the environment their names are upper case, with the prefix `OPTIMIST_`.
#[derive(Clone, Default, Deserialize)]
struct Settings {
    database_url: Option<String>,
    migrate_database_url: Option<String>,
    relay_replica_url: Option<String>,
    /// The former name of `relay_replica_url`.
    replica_url: Option<String>,
    replica_urls: Option<String>,
    replica_lag_seconds: Option<u64>,
    database_ca_file: Option<String>,
    redis_url: Option<String>,
    redis_ca_file: Option<String>,
    region: Option<String>,
    listen: Option<String>,
    internal_listen: Option<String>,
    gateway_listen: Option<String>,
    gateway_url: Option<String>,
    database_pool: Option<usize>,
    value_budget_bytes: Option<u64>,
    redis_deadline_ms: Option<u64>,
    presence_lease_s: Option<u32>,
    archive_url: Option<String>,
    archive_ca_file: Option<String>,
    archive_ages: Option<String>,
    outgoing_allow: Option<String>,
    smtp_url: Option<String>,
    mail_from: Option<String>,
    vapid_key: Option<String>,
    vapid_subject: Option<String>,
    app_url: Option<String>,
    unverified_accounts: Option<String>,
    /// Key rings, or the files that hold them; and whatever else a file has, which is refused by name.
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

const NAMES: [&str; 28] = [
    "database_url",
    "migrate_database_url",
    "relay_replica_url",
    "replica_url",
    "replica_urls",
    "replica_lag_seconds",
    "database_ca_file",
    "redis_url",
    "redis_ca_file",
    "region",
    "listen",
    "internal_listen",
    "gateway_listen",
    "gateway_url",
    "database_pool",
    "value_budget_bytes",
    "redis_deadline_ms",
    "presence_lease_s",
    "archive_url",
    "archive_ca_file",
    "archive_ages",
    "outgoing_allow",
    "smtp_url",
    "mail_from",
    "vapid_key",
    "vapid_subject",
    "app_url",
    "unverified_accounts",
];

/// The ring that verifies the edge's signatures.
const SIGNING_KEYS: &str = "signing_keys";

#[derive(Clone)]
pub struct Config {
    pub database_url: String,
    pub migrate_database_url: Option<String>,
    /// A read replica near the region, from which the relay may read the outbox.
    pub relay_replica_url: Option<String>,
    /// Read replicas that answer history and the audit trail, each with one host.
    pub replica_urls: Vec<String>,
    /// How far such a replica may lag behind.
    pub replica_lag: Duration,
    /// The authorities of Postgres's certificates, if not the public ones.
    pub database_ca: Option<Authorities>,
    pub redis_url: String,
    /// The authorities of Redis's certificates, if not the public ones.
    pub redis_ca: Option<Authorities>,
    pub region: String,
    pub listen: SocketAddr,
    pub internal_listen: SocketAddr,
    /// Where the gateway listens.
    pub gateway_listen: SocketAddr,
    /// Where clients reach it, if not there: without a path.
    pub gateway_url: Option<String>,
    /// Connections to Postgres.
    pub database_pool: usize,
    /// Bytes of Redis memory beyond which values are no longer cached; 0 for no bound.
    pub value_budget_bytes: u64,
    pub redis_deadline_ms: u64,
    /// Seconds that a device counts as present after it has said so.
    pub presence_lease_s: u32,
    /// Where old months go: a folder or a bucket. Nothing is archived without it.
    pub archive_url: Option<String>,
    /// The authorities of a bucket's certificates, if not the public ones.
    pub archive_ca: Option<Authorities>,
    pub archive_ages: Ages,
    pub outgoing: outgoing::Settings,
    key_rings: HashMap<&'static str, Keys>,
    no_keys: Keys,
}

/// A setting is missing or wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In upper case, without the prefix.
    pub variable: String,
    pub reason: String,
}

impl ConfigError {
    pub fn new(variable: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError { variable: variable.to_uppercase(), reason: reason.into() }
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OPTIMIST_{} {}", self.variable, self.reason)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Refuses settings that suffice for commands, but not to serve.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.outgoing.check().map_err(|(variable, reason)| ConfigError::new(variable, reason))
    }

    /// `key_rings` are the domains': each is required, as `<name>` or as `<name>_file`.
    pub fn load(
        file: Option<&Path>,
        key_rings: &[&'static str],
    ) -> Result<Config, Box<dyn std::error::Error>> {
        let rings = rings(key_rings);
        let known = rings.clone();
        let mut figment = Figment::new();
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        // Other programs' variables with our prefix (the edge's, the tests') are not settings of the origin.
        let environment =
            Env::prefixed("OPTIMIST_").filter(move |name| is_setting(&name.as_str().to_lowercase(), &known));
        let settings = extract(&figment.merge(environment), &rings)?;
        Ok(Config::validate(settings, &rings)?)
    }

    fn validate(settings: Settings, rings: &[&'static str]) -> Result<Config, ConfigError> {
        let required = |variable, value: Option<String>| {
            value
                .filter(|text| !text.trim().is_empty())
                .ok_or_else(|| ConfigError::new(variable, "is required"))
        };
        let address = |variable, value: Option<String>| {
            let text = value.unwrap_or_else(|| "127.0.0.1:0".to_owned());
            let reason = format!("must be an address and a port, not {text:?}");
            text.parse().map_err(|_| ConfigError::new(variable, reason))
        };
        let region = required("region", settings.region)?;
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Err(ConfigError::new("region", "may hold lower-case letters, digits and `-`"));
        }
        let database_url = required("database_url", settings.database_url)?;
        let database_ca = authorities("database_ca_file", settings.database_ca_file)?;
        let databases = [
            ("database_url", Some(&database_url)),
            ("migrate_database_url", settings.migrate_database_url.as_ref()),
            ("relay_replica_url", settings.relay_replica_url.as_ref()),
            ("replica_url", settings.replica_url.as_ref()),
        ];
        let replica_urls = listed(settings.replica_urls.as_deref());
        let replicas = replica_urls.iter().map(|url| ("replica_urls", Some(url)));
        for (variable, url) in databases.into_iter().chain(replicas) {
            let checked = url.map(|url| tls::postgres(url, database_ca.as_ref())).transpose();
            checked.map_err(|reason| ConfigError::new(variable, reason))?;
        }
        if settings.relay_replica_url.is_some() && settings.replica_url.is_some() {
            return Err(ConfigError::new(
                "replica_url",
                "is the former name of OPTIMIST_RELAY_REPLICA_URL: set one",
            ));
        }
        let redis_url = required("redis_url", settings.redis_url)?;
        let redis_ca = authorities("redis_ca_file", settings.redis_ca_file)?;
        if let Some(reason) = tls::refusal_of_redis(&redis_url, redis_ca.as_ref()) {
            return Err(ConfigError::new("redis_url", reason));
        }
        let database_pool = settings.database_pool.unwrap_or(16);
        if !(2..=500).contains(&database_pool) {
            return Err(ConfigError::new("database_pool", "must lie between 2 and 500"));
        }
        let presence_lease_s = settings.presence_lease_s.unwrap_or(DEFAULT_LEASE_SECONDS);
        if !LEASE_SECONDS.contains(&presence_lease_s) {
            return Err(ConfigError::new("presence_lease_s", "must lie between 1 and 1800"));
        }
        let archive_url = settings.archive_url.filter(|url| !url.trim().is_empty());
        if let Some(reason) = archive_url.as_deref().and_then(refusal) {
            return Err(ConfigError::new("archive_url", reason));
        }
        let archive_ca = authorities("archive_ca_file", settings.archive_ca_file)?;
        let archive_ages = Ages::parse(settings.archive_ages.as_deref().unwrap_or_default())
            .map_err(|reason| ConfigError::new("archive_ages", reason))?;
        let outgoing = outgoing::Settings::parse(&outgoing::Given {
            outgoing_allow: settings.outgoing_allow,
            smtp_url: settings.smtp_url,
            mail_from: settings.mail_from,
            vapid_key: settings.vapid_key,
            vapid_subject: settings.vapid_subject,
            app_url: settings.app_url,
            unverified_accounts: settings.unverified_accounts,
        })
        .map_err(|(variable, reason)| ConfigError::new(variable, reason))?;
        let gateway_url = settings.gateway_url.filter(|url| !url.trim().is_empty());
        let gateway_url = gateway_url.map(|url| url.trim().trim_end_matches('/').to_owned());
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if gateway_url.as_ref().is_some_and(|url| !is_url(url)) {
            return Err(ConfigError::new("gateway_url", "must begin with `https://` or `http://`"));
        }
        let ring = |name: &&'static str| Ok((*name, key_ring(name, &settings.others)?));
        Ok(Config {
            database_url,
            migrate_database_url: settings.migrate_database_url,
            relay_replica_url: settings.relay_replica_url.or(settings.replica_url),
            replica_urls,
            replica_lag: Duration::from_secs(settings.replica_lag_seconds.unwrap_or(30).max(1)),
            database_ca,
            redis_url,
            redis_ca,
            region,
            listen: address("listen", settings.listen)?,
            internal_listen: address("internal_listen", settings.internal_listen)?,
            gateway_listen: address("gateway_listen", settings.gateway_listen)?,
            gateway_url,
            database_pool,
            value_budget_bytes: settings.value_budget_bytes.unwrap_or(0),
            redis_deadline_ms: settings.redis_deadline_ms.unwrap_or(250).max(1),
            presence_lease_s,
            archive_url,
            archive_ca,
            archive_ages,
            outgoing,
            key_rings: rings.iter().map(ring).collect::<Result<_, _>>()?,
            no_keys: Keys::default(),
        })
    }

    /// Whether months of this table go to the archive.
    pub fn archives(&self, table: &str) -> bool {
        self.archive_url.is_some() && !self.archive_ages.never().contains(&table)
    }

    /// Keys that verify the edge's signatures.
    pub fn signing_keys(&self) -> &Keys {
        self.keys(SIGNING_KEYS)
    }

    /// A domain's key ring, by its setting's name. A ring that no domain declares is a defect: it panics wherever debug
    /// assertions are on, as in every test, and has no keys elsewhere.
    pub fn keys(&self, ring: &str) -> &Keys {
        let keys = self.key_rings.get(ring);
        debug_assert!(keys.is_some(), "no domain declares the key ring {ring:?}");
        keys.unwrap_or(&self.no_keys)
    }
}

/// Reads the settings, and refuses by name what is none. Only a file can have such: the environment is filtered before.
fn extract(figment: &Figment, rings: &[&str]) -> Result<Settings, Box<dyn std::error::Error>> {
    let settings: Settings = figment.extract().map_err(|error| match &error.path[..] {
        [name] => Box::<dyn std::error::Error>::from(ConfigError::new(name, error.kind.to_string())),
        // A file that is no TOML.
        _ => error.into(),
    })?;
    if let Some(unknown) = settings.others.keys().find(|name| !is_setting(name, rings)) {
        let is_upper_case = is_setting(&unknown.to_lowercase(), rings);
        let reason = if is_upper_case { "must be in lower case in the file" } else { "is not a setting" };
        return Err(ConfigError::new(unknown, reason).into());
    }
    Ok(settings)
}

/// Whether a setting has this name, which is in lower case.
fn is_setting(name: &str, rings: &[&str]) -> bool {
    let ring = name.strip_suffix("_file").unwrap_or(name);
    NAMES.contains(&name) || rings.contains(&ring)
}

/// All key rings: the domains' and the plane's own.
fn rings(domains: &[&'static str]) -> Vec<&'static str> {
    [&[SIGNING_KEYS], domains].concat()
}

/// The parts of a list, which commas separate.
fn listed(list: Option<&str>) -> Vec<String> {
    let parts = list.unwrap_or_default().split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn authorities(name: &str, file: Option<String>) -> Result<Option<Authorities>, ConfigError> {
    Authorities::read(file).map_err(|reason| ConfigError::new(name, reason))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    const RING: &str = "sealing_keys";

    fn settings() -> Settings {
        let key = format!("k1:{}", base64::engine::general_purpose::STANDARD.encode([1; 32]));
        Settings {
            database_url: Some("postgres://serve@127.0.0.1:1/optimist".to_owned()),
            redis_url: Some("redis://127.0.0.1:1".to_owned()),
            region: Some("eu".to_owned()),
            others: [SIGNING_KEYS, RING].map(|name| (name.to_owned(), key.clone().into())).into(),
            ..Settings::default()
        }
    }

    fn validate(change: impl FnOnce(&mut Settings)) -> Result<Config, ConfigError> {
        let mut settings = settings();
        change(&mut settings);
        Config::validate(settings, &rings(&[RING]))
    }

    fn refused(change: impl FnOnce(&mut Settings)) -> String {
        validate(change).err().expect("refused").variable
    }

    fn set(settings: &mut Settings, name: &str, value: &str) {
        settings.others.insert(name.to_owned(), value.into());
    }

    #[test]
    fn errors_name_the_variable() {
        assert!(validate(|_| ()).is_ok_and(|config| config.keys(RING).first == "k1"));
        assert_eq!(refused(|s| s.region = None), "REGION");
        assert_eq!(refused(|s| s.region = Some("EU 1".to_owned())), "REGION");
        assert_eq!(refused(|s| s.database_url = Some("nonsense".to_owned())), "DATABASE_URL");
        assert_eq!(refused(|s| s.replica_url = Some("nonsense".to_owned())), "REPLICA_URL");
        assert_eq!(refused(|s| s.redis_url = Some("nonsense".to_owned())), "REDIS_URL");
        let in_clear = || Some("postgres://owner@db.internal/optimist?sslmode=disable".to_owned());
        assert_eq!(refused(|s| s.migrate_database_url = in_clear()), "MIGRATE_DATABASE_URL");
        assert_eq!(refused(|s| s.redis_url = Some("redis://redis.internal".to_owned())), "REDIS_URL");
        assert_eq!(refused(|s| s.redis_ca_file = Some("/nonexistent".to_owned())), "REDIS_CA_FILE");
        assert_eq!(refused(|s| s.archive_url = Some("archive".to_owned())), "ARCHIVE_URL");
        assert_eq!(refused(|s| s.archive_ca_file = Some("/nonexistent".to_owned())), "ARCHIVE_CA_FILE");
        assert_eq!(refused(|s| s.archive_ages = Some("audit".to_owned())), "ARCHIVE_AGES");
        assert_eq!(refused(|s| s.outgoing_allow = Some("127.0.0.1/33".to_owned())), "OUTGOING_ALLOW");
        assert_eq!(refused(|s| s.smtp_url = Some("http://mail.example.org".to_owned())), "SMTP_URL");
        assert_eq!(refused(|s| s.vapid_key = Some("short".to_owned())), "VAPID_KEY");
        assert_eq!(refused(|s| s.gateway_url = Some("live.example.org".to_owned())), "GATEWAY_URL");
        assert_eq!(refused(|s| s.listen = Some("here".to_owned())), "LISTEN");
        assert_eq!(refused(|s| s.database_pool = Some(0)), "DATABASE_POOL");
    }

    #[test]
    fn replicas_are_a_list_and_the_relays_has_a_former_name() {
        let url = |host: &str| format!("postgres://serve@127.0.0.1:{host}/optimist");
        let config =
            validate(|s| s.replica_urls = Some(format!(" {}, {},", url("1"), url("2")))).ok().unwrap();
        assert_eq!(config.replica_urls, [url("1"), url("2")]);
        assert_eq!(config.replica_lag, Duration::from_secs(30));
        assert_eq!(refused(|s| s.replica_urls = Some(format!("{}, nonsense", url("1")))), "REPLICA_URLS");
        assert!(validate(|_| ()).is_ok_and(|config| config.replica_urls.is_empty()));
        for former in [true, false] {
            let config = validate(|s| {
                *(if former { &mut s.replica_url } else { &mut s.relay_replica_url }) = Some(url("1"));
            });
            assert_eq!(config.ok().unwrap().relay_replica_url, Some(url("1")));
        }
        let both = |s: &mut Settings| (s.replica_url, s.relay_replica_url) = (Some(url("1")), Some(url("1")));
        assert_eq!(refused(both), "REPLICA_URL");
    }

    #[test]
    fn a_key_ring_is_given_once_and_whole() {
        assert_eq!(refused(|s| set(s, SIGNING_KEYS, "k1:c2hvcnQ=")), "SIGNING_KEYS");
        assert_eq!(refused(|s| set(s, RING, "nonsense")), "SEALING_KEYS");
        assert_eq!(refused(|s| drop(s.others.remove(RING))), "SEALING_KEYS");
        assert_eq!(refused(|s| set(s, "sealing_keys_file", "/nonexistent")), "SEALING_KEYS");
        let from_file = |s: &mut Settings| {
            s.others.remove(RING);
            set(s, "sealing_keys_file", "/nonexistent");
        };
        assert_eq!(refused(from_file), "SEALING_KEYS_FILE");
        assert_eq!(refused(|s| drop(s.others.insert(RING.to_owned(), 5.into()))), "SEALING_KEYS");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "no domain declares the key ring \"sealing\"")]
    fn a_ring_that_no_domain_declares_is_a_defect() {
        validate(|_| ()).unwrap().keys("sealing");
    }

    #[test]
    fn a_file_is_refused_by_the_name_of_what_is_no_setting() {
        let read = |toml: &str| extract(&Figment::from(Toml::string(toml)), &rings(&[RING]));
        let settings = read("sealing_keys = 'k1:'\nsigning_keys_file = '/keys'\ndatabase_pool = 4").unwrap();
        assert_eq!(settings.others["signing_keys_file"].as_str(), Some("/keys"));
        assert_eq!(settings.database_pool, Some(4));
        let error = |toml: &str| read(toml).err().expect("refused").to_string();
        assert!(error("database_pool = 'many'").starts_with("OPTIMIST_DATABASE_POOL "));
        for value in ["'text'", "5", "true", "[1, 2]", "{ a = 1 }"] {
            assert_eq!(error(&format!("wake = {value}")), "OPTIMIST_WAKE is not a setting");
        }
        for name in ["SEALING_KEYS", "Signing_keys_file", "REGION"] {
            let reason = format!("OPTIMIST_{} must be in lower case in the file", name.to_uppercase());
            assert_eq!(error(&format!("{name} = 'x'")), reason);
        }
    }
}
