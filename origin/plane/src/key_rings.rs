//! Rings of secret keys: from a setting, or from a file that a secret store has put there.

use std::collections::HashMap;

use base64::Engine as _;
use figment::value::Value;

use crate::config::ConfigError;

/// Named keys, of which the first is the newest.
#[derive(Clone, Default)]
pub struct Keys {
    pub first: String,
    by_id: HashMap<String, Vec<u8>>,
}

impl Keys {
    pub fn get(&self, id: &str) -> Option<&[u8]> {
        self.by_id.get(id).map(Vec::as_slice)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.by_id.values().map(Vec::as_slice)
    }

    /// From `id:base64` pairs, separated by commas. The error names the variable that they come from.
    pub fn parse(variable: &str, text: &str) -> Result<Keys, ConfigError> {
        let error = |reason: &str| ConfigError::new(variable, reason);
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

/// Reads a key ring from its setting, or from a file that a secret store has put there.
pub fn key_ring(name: &str, settings: &HashMap<String, Value>) -> Result<Keys, ConfigError> {
    let given = |name: &str| {
        let text = settings.get(name).map(|value| value.as_str());
        let text = text.map(|text| text.ok_or_else(|| ConfigError::new(name, "must be text"))).transpose()?;
        Ok(text.filter(|text| !text.trim().is_empty()))
    };
    let in_file = format!("{name}_file");
    let text = match (given(name)?, given(&in_file)?) {
        (Some(_), Some(_)) => {
            let reason = format!("and OPTIMIST_{} exclude each other", in_file.to_uppercase());
            return Err(ConfigError::new(name, reason));
        }
        (Some(text), None) => text.to_owned(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|why| ConfigError::new(&in_file, format!("cannot be read: {why}")))?,
        (None, None) => {
            let reason = format!("is required, or OPTIMIST_{}", in_file.to_uppercase());
            return Err(ConfigError::new(name, reason));
        }
    };
    Keys::parse(name, text.trim())
}
