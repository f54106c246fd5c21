//! The versions of drafts: opaque to clients, ordered for us.

use chrono::{DateTime, Utc};
use optimist_plane::describe;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::sent::Refused;
use optimist_shared::session::hex;
use serde::Deserialize;

/// A version that a client names, in the form in which every save answers it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Version(pub String);

describe!(Version, {"type": "string", "pattern": "^[0-9a-f]{32}$"});

impl Version {
    /// Whether a text has that form.
    pub fn is_one(text: &str) -> bool {
        text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl TryFrom<String> for Version {
    type Error = Refused;

    fn try_from(text: String) -> Result<Version, Refused> {
        let is_version = Version::is_one(&text);
        if is_version { Ok(Version(text)) } else { Err(Refused::new("is not a version of a draft")) }
    }
}

/// A version greater than its base, whatever the clock says: milliseconds, then random digits.
pub fn next_version(base: Option<&str>, now: DateTime<Utc>) -> Result<String> {
    let of_base = base.and_then(|base| u64::from_str_radix(base.get(..12)?, 16).ok()).unwrap_or(0);
    let ms = now.timestamp_millis().max(0).cast_unsigned().max(of_base + 1);
    let mut chance = [0; 10];
    getrandom::fill(&mut chance).map_err(|error| Error::internal("drafts", &error))?;
    Ok(format!("{ms:012x}{}", hex(&chance)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_whatever_the_clock_says() {
        let at = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        let first = next_version(None, at(5_000)).unwrap();
        assert!(Version::is_one(&first), "{first}");
        let second = next_version(Some(&first), at(4_000)).unwrap();
        assert!(second > first, "{first} {second}");
        assert!(next_version(Some(&second), at(9_000)).unwrap() > second);
        for bad in ["", "x", &first[1..], &first.to_uppercase(), &format!("{first}0")] {
            assert!(bad == first.to_uppercase() && bad == first || !Version::is_one(bad), "{bad}");
        }
    }
}
