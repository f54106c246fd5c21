//! The archive's settings: where it is, and when months go there.

use std::collections::BTreeMap;

/// The time after the end of a month at which it is archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Age {
    /// An interval as Postgres reads it.
    After(String),
    Never,
}

/// The ages that a setting has for tables; others have those of the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ages(BTreeMap<String, Age>);

impl Ages {
    /// From `table=24 months`, `table=90 days` or `table=never`, separated by commas. The error is a reason for the setting.
    pub fn parse(text: &str) -> Result<Ages, String> {
        let mut ages = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let reason = || format!("must be like `audit=400 days` or `audit=never`, not {part:?}");
            let (table, age) = part.split_once('=').ok_or_else(reason)?;
            let table = table.trim();
            let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if table.is_empty() || !is_name(table) {
                return Err(reason());
            }
            let age = parse_age(age.trim()).ok_or_else(reason)?;
            if ages.insert(table.to_owned(), age).is_some() {
                return Err(format!("names {table} twice"));
            }
        }
        Ok(Ages(ages))
    }

    /// The tables whose months stay.
    pub fn never(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, age)| **age == Age::Never).map(|(table, _)| table.as_str()).collect()
    }

    /// The tables with another age than the schema's, and that age.
    pub fn intervals<'a>(&'a self) -> (Vec<&'a str>, Vec<&'a str>) {
        let interval = |(table, age): (&'a String, &'a Age)| match age {
            Age::After(interval) => Some((table.as_str(), interval.as_str())),
            Age::Never => None,
        };
        self.0.iter().filter_map(interval).unzip()
    }
}

fn parse_age(text: &str) -> Option<Age> {
    if text == "never" {
        return Some(Age::Never);
    }
    let (number, unit) = text.split_once(' ')?;
    let number: u32 = number.parse().ok().filter(|number| (1..=12_000).contains(number))?;
    ["days", "months"].contains(&unit).then(|| Age::After(format!("{number} {unit}")))
}

/// The reason for which a URL of an archive is refused, if it is.
pub fn refusal(url: &str) -> Option<&'static str> {
    match url.split_once("://") {
        None if url.starts_with('/') => None,
        Some(("file", path)) if path.starts_with('/') => None,
        Some(("s3", place)) if !place.is_empty() && !place.starts_with('/') => None,
        _ => Some("must be a folder (`/…` or `file:///…`) or `s3://bucket/prefix`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_of_tables() {
        let ages = Ages::parse("messages=36 months, audit=never,notifications=120 days").unwrap();
        assert_eq!(ages.never(), ["audit"]);
        assert_eq!(ages.intervals(), (vec!["messages", "notifications"], vec!["36 months", "120 days"]));
        assert_eq!(Ages::parse(""), Ok(Ages::default()));
        for bad in
            ["audit", "audit=", "audit=0 days", "audit=1 year", "=never", "a=never,a=never", "audit=-1 days"]
        {
            assert!(Ages::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_archive_is_a_folder_or_a_bucket() {
        for good in ["/var/archive", "file:///var/archive", "s3://bucket", "s3://bucket/prefix"] {
            assert_eq!(refusal(good), None, "{good}");
        }
        for bad in
            ["archive", "file://archive", "s3://", "s3:///prefix", "https://example.org", "gs://bucket"]
        {
            assert!(refusal(bad).is_some(), "{bad}");
        }
    }
}
