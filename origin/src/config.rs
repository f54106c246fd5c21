//! The origin's configuration: the environment over an optional TOML file, validated before anything starts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;

/// Settings as they are written. In the environment their names are upper case, with the prefix `OPTIMIST_`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    database_url: Option<String>,
    migrate_database_url: Option<String>,
    replica_url: Option<String>,
    redis_url: Option<String>,
    region: Option<String>,
    signing_keys: Option<String>,
    token_keys: Option<String>,
    journal_keys: Option<String>,
    journal_keys_file: Option<PathBuf>,
    listen: Option<String>,
    internal_listen: Option<String>,
    database_pool: Option<usize>,
    value_budget_bytes: Option<u64>,
    redis_deadline_ms: Option<u64>,
    #[serde(rename = "config")]
    _config: Option<String>,
}

#[derive(Clone)]
pub struct Config {
    pub database_url: String,
    pub migrate_database_url: Option<String>,
    /// A read replica near the region, from which the relay may read the outbox.
    pub replica_url: Option<String>,
    pub redis_url: String,
    pub region: String,
    /// Keys that verify the edge's signatures.
    pub signing_keys: Keys,
    /// Keys that refresh tokens are derived with; the first derives.
    pub token_keys: Keys,
    /// Keys that users' data keys are wrapped with; the first wraps.
    pub journal_keys: Keys,
    pub listen: SocketAddr,
    pub internal_listen: SocketAddr,
    /// Connections to Postgres.
    pub database_pool: usize,
    /// Bytes of Redis memory beyond which values are not cached any more; 0 for no bound.
    pub value_budget_bytes: u64,
    pub redis_deadline_ms: u64,
}

/// Named keys, of which the first is the newest.
#[derive(Clone)]
pub struct Keys {
    pub first: String,
    by_id: HashMap<String, Vec<u8>>,
}

impl Keys {
    pub fn get(&self, id: &str) -> Option<&[u8]> {
        self.by_id.get(id).map(Vec::as_slice)
    }

    fn parse(variable: &'static str, text: &str) -> Result<Keys, ConfigError> {
        let error = |reason: &str| ConfigError { variable, reason: reason.to_owned() };
        let mut first = None;
        let mut by_id = HashMap::new();
        for part in text.split(',') {
            let (id, key) = part
                .trim()
                .split_once(':')
                .ok_or_else(|| error("must be `id:base64` pairs, separated by commas"))?;
            let key = base64::engine::general_purpose::STANDARD
                .decode(key)
                .map_err(|_| error("holds a key that is not base64"))?;
            if key.len() < 32 {
                return Err(error("holds a key of less than 32 bytes"));
            }
            first.get_or_insert_with(|| id.to_owned());
            by_id.insert(id.to_owned(), key);
        }
        Ok(Keys { first: first.unwrap_or_default(), by_id })
    }
}

/// A setting is missing or wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub variable: &'static str,
    pub reason: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OPTIMIST_{} {}", self.variable, self.reason)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    pub fn load(file: Option<&Path>) -> Result<Config, Box<dyn std::error::Error>> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let settings: Settings =
            figment.merge(Env::prefixed("OPTIMIST_").filter(|name| is_setting(name.as_str()))).extract()?;
        Ok(Config::validate(settings)?)
    }

    fn validate(settings: Settings) -> Result<Config, ConfigError> {
        let required = |variable, value: Option<String>| {
            value
                .filter(|text| !text.trim().is_empty())
                .ok_or(ConfigError { variable, reason: "is required".to_owned() })
        };
        let address = |variable, value: Option<String>| {
            let text = value.unwrap_or_else(|| "127.0.0.1:0".to_owned());
            let reason = format!("must be an address and a port, not {text:?}");
            text.parse().map_err(|_| ConfigError { variable, reason })
        };
        let region = required("REGION", settings.region)?;
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Err(ConfigError {
                variable: "REGION",
                reason: "may hold lower-case letters, digits and `-`".to_owned(),
            });
        }
        let database_url = required("DATABASE_URL", settings.database_url)?;
        let is_postgres = |url: &String| url.parse::<tokio_postgres::Config>().is_ok();
        if !is_postgres(&database_url) {
            return Err(ConfigError { variable: "DATABASE_URL", reason: "is not a Postgres URL".to_owned() });
        }
        if settings.replica_url.as_ref().is_some_and(|url| !is_postgres(url)) {
            return Err(ConfigError { variable: "REPLICA_URL", reason: "is not a Postgres URL".to_owned() });
        }
        let redis_url = required("REDIS_URL", settings.redis_url)?;
        ::redis::Client::open(redis_url.as_str())
            .map_err(|_| ConfigError { variable: "REDIS_URL", reason: "is not a Redis URL".to_owned() })?;
        let database_pool = settings.database_pool.unwrap_or(16);
        if !(2..=500).contains(&database_pool) {
            return Err(ConfigError {
                variable: "DATABASE_POOL",
                reason: "must lie between 2 and 500".to_owned(),
            });
        }
        Ok(Config {
            database_url,
            migrate_database_url: settings.migrate_database_url,
            replica_url: settings.replica_url,
            redis_url,
            region,
            signing_keys: Keys::parse("SIGNING_KEYS", &required("SIGNING_KEYS", settings.signing_keys)?)?,
            journal_keys: journal_keys(settings.journal_keys, settings.journal_keys_file.as_deref())?,
            token_keys: Keys::parse("TOKEN_KEYS", &required("TOKEN_KEYS", settings.token_keys)?)?,
            listen: address("LISTEN", settings.listen)?,
            internal_listen: address("INTERNAL_LISTEN", settings.internal_listen)?,
            database_pool,
            value_budget_bytes: settings.value_budget_bytes.unwrap_or(0),
            redis_deadline_ms: settings.redis_deadline_ms.unwrap_or(250).max(1),
        })
    }
}

/// From the environment, or from a file that a secret store has put there.
fn journal_keys(keys: Option<String>, file: Option<&Path>) -> Result<Keys, ConfigError> {
    let error = |variable, reason: String| ConfigError { variable, reason };
    let text = match (keys.filter(|text| !text.trim().is_empty()), file) {
        (Some(_), Some(_)) => {
            return Err(error(
                "JOURNAL_KEYS",
                "and OPTIMIST_JOURNAL_KEYS_FILE exclude each other".to_owned(),
            ));
        }
        (Some(text), None) => text,
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|why| error("JOURNAL_KEYS_FILE", format!("cannot be read: {why}")))?,
        (None, None) => {
            return Err(error("JOURNAL_KEYS", "is required, or OPTIMIST_JOURNAL_KEYS_FILE".to_owned()));
        }
    };
    Keys::parse("JOURNAL_KEYS", text.trim())
}

/// Other programs' variables with our prefix (the edge's, the tests') are none of the origin's settings.
fn is_setting(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "database_url",
        "migrate_database_url",
        "replica_url",
        "redis_url",
        "region",
        "signing_keys",
        "token_keys",
        "journal_keys",
        "journal_keys_file",
        "listen",
        "internal_listen",
        "database_pool",
        "value_budget_bytes",
        "redis_deadline_ms",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let key = format!("k1:{}", base64::engine::general_purpose::STANDARD.encode([1; 32]));
        Settings {
            database_url: Some("postgres://serve@127.0.0.1:1/optimist".to_owned()),
            migrate_database_url: None,
            replica_url: None,
            redis_url: Some("redis://127.0.0.1:1".to_owned()),
            region: Some("eu".to_owned()),
            signing_keys: Some(key.clone()),
            token_keys: Some(key.clone()),
            journal_keys: Some(key),
            journal_keys_file: None,
            listen: None,
            internal_listen: None,
            database_pool: None,
            value_budget_bytes: None,
            redis_deadline_ms: None,
            _config: None,
        }
    }

    fn refused(change: impl FnOnce(&mut Settings)) -> &'static str {
        let mut settings = settings();
        change(&mut settings);
        Config::validate(settings).err().expect("refused").variable
    }

    #[test]
    fn errors_name_the_variable() {
        assert!(Config::validate(settings()).is_ok());
        assert_eq!(refused(|s| s.region = None), "REGION");
        assert_eq!(refused(|s| s.region = Some("EU 1".to_owned())), "REGION");
        assert_eq!(refused(|s| s.database_url = Some("nonsense".to_owned())), "DATABASE_URL");
        assert_eq!(refused(|s| s.replica_url = Some("nonsense".to_owned())), "REPLICA_URL");
        assert_eq!(refused(|s| s.redis_url = Some("nonsense".to_owned())), "REDIS_URL");
        assert_eq!(refused(|s| s.signing_keys = Some("k1:c2hvcnQ=".to_owned())), "SIGNING_KEYS");
        assert_eq!(refused(|s| s.token_keys = Some("nonsense".to_owned())), "TOKEN_KEYS");
        assert_eq!(refused(|s| s.journal_keys = None), "JOURNAL_KEYS");
        assert_eq!(refused(|s| s.journal_keys_file = Some("/nonexistent".into())), "JOURNAL_KEYS");
        assert_eq!(
            refused(|s| {
                s.journal_keys = None;
                s.journal_keys_file = Some("/nonexistent".into());
            }),
            "JOURNAL_KEYS_FILE"
        );
        assert_eq!(refused(|s| s.listen = Some("here".to_owned())), "LISTEN");
        assert_eq!(refused(|s| s.database_pool = Some(0)), "DATABASE_POOL");
    }
}
