//! Values for which JSON has no type: each in the one form that the API's description names.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};
use optimist_shared::ids::{Uuid, parse_sent_id};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Refused, describe};

/// An id, in lower case as answers write it, or in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(pub Uuid);

describe!(Id, {"type": "string", "format": "uuid"});

impl TryFrom<String> for Id {
    type Error = Refused;

    fn try_from(text: String) -> Result<Id, Refused> {
        parse_sent_id(&text).map(Id).ok_or_else(|| Refused::new("must be an id: a UUID"))
    }
}

/// The schema of the `promise` in answers to writes: the store that holds them so far.
pub struct PromiseShape;

describe!(PromiseShape, {"type": "string", "enum": ["redis", "postgres", "redis-only"]});

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub NaiveDate);

describe!(Day, {"type": "string", "format": "date"});

impl TryFrom<String> for Day {
    type Error = Refused;

    fn try_from(text: String) -> Result<Day, Refused> {
        parse_day(&text).map(Day).ok_or_else(|| Refused::new("must be a day, as 2026-11-23"))
    }
}

/// A day in its one accepted form, of a year that Postgres knows: `2026-11-23`.
pub fn parse_day(text: &str) -> Option<NaiveDate> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (text.len() == 10 && digits == 8).then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()).flatten()
}

/// A point in time (RFC 3339).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Moment(pub DateTime<Utc>);

describe!(Moment, {"type": "string", "format": "date-time"});

impl TryFrom<String> for Moment {
    type Error = Refused;

    fn try_from(text: String) -> Result<Moment, Refused> {
        let time = DateTime::parse_from_rfc3339(&text);
        time.map(|time| Moment(time.to_utc()))
            .map_err(|_| Refused::new("must be a time, as 2026-11-23T08:00:00Z"))
    }
}

/// A small whole number within bounds. JSON has one kind of number, so `4.0` is 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<const LEAST: i16, const MOST: i16>(pub i16);

impl<const LEAST: i16, const MOST: i16> Number<LEAST, MOST> {
    pub const BOUNDS: std::ops::RangeInclusive<i16> = LEAST..=MOST;
}

impl<'de, const LEAST: i16, const MOST: i16> Deserialize<'de> for Number<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        let whole = number.fract() == 0.0 && (f64::from(i16::MIN)..=f64::from(i16::MAX)).contains(&number);
        if !whole {
            return Err(D::Error::custom(Refused::new("must be a whole number")));
        }
        let number = number as i16;
        if !Self::BOUNDS.contains(&number) {
            let reason = format!("must be a number from {LEAST} to {MOST}");
            return Err(D::Error::custom(Refused::new(reason)));
        }
        Ok(Number(number))
    }
}

impl<const LEAST: i16, const MOST: i16> JsonSchema for Number<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": LEAST, "maximum": MOST})
    }
}

/// How many there are of something, or the number of the last: up to the greatest that every JSON parser keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl Count {
    pub const MOST: u64 = (1 << 53) - 1;
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        let fits = number.fract() == 0.0 && (0.0..=Self::MOST as f64).contains(&number);
        let refused = || Refused::new(format!("must be a whole number from 0 to {}", Self::MOST));
        fits.then_some(Count(number as u64)).ok_or_else(|| D::Error::custom(refused()))
    }
}

impl JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0, "maximum": Self::MOST})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Any = Number<{ i16::MIN }, { i16::MAX }>;

    proptest! {
        #[test]
        fn a_day_has_one_spelling(
            text in "[+-]?[0-9 ]{1,6}-[0-9 ]{1,2}-[0-9 ]{1,2}|[-+0-9]{10}|\\PC*",
            days in -365..3_652_059i32,
        ) {
            let known = NaiveDate::from_num_days_from_ce_opt(days).unwrap();
            prop_assert_eq!(parse_day(&known.to_string()), Some(known));
            prop_assert!(parse_day(&text).is_none_or(|day| day.to_string() == text));
        }

        #[test]
        fn whatever_comes_as_a_value_is_one_or_refused(text in "[-+0-9TZ:. e\"]{0,30}|\\PC*", number: f64) {
            // Never a panic; a value that Postgres could not keep is no moment, and no number.
            if let Ok(Moment(time)) = Moment::try_from(text.clone()) {
                prop_assert!((-4712..=10_000).contains(&chrono::Datelike::year(&time)));
            }
            if let Ok(Number(whole)) = serde_json::from_str::<Any>(&number.to_string()) {
                prop_assert_eq!(f64::from(whole), number);
            }
            let _ = serde_json::from_str::<Any>(&text);
            prop_assert!(Id::try_from(text.clone()).is_err() || text.len() == 36);
        }
    }

    #[test]
    fn a_day_has_one_form() {
        assert_eq!(parse_day("2024-02-29"), NaiveDate::from_ymd_opt(2024, 2, 29));
        for bad in
            ["2023-02-29", "2026-1-5", "2026-01-5 ", "+262142-01-01", "-262143-01-01", "-026-01-011", ""]
        {
            assert_eq!(parse_day(bad), None, "{bad}");
        }
    }

    #[test]
    fn whole_numbers_may_be_written_as_fractions() {
        let read = |text| serde_json::from_str::<Any>(text).ok().map(|Number(number)| number);
        assert_eq!((read("4"), read("4.0"), read("-1e2")), (Some(4), Some(4), Some(-100)));
        for bad in ["4.5", "1e9", "\"4\"", "null", "true"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
    #[test]
    fn numbers_are_bounded() {
        for (text, number) in [("0", 0), ("12.0", 12), ("9007199254740991", Count::MOST)] {
            assert_eq!(serde_json::from_str::<Count>(text).ok(), Some(Count(number)));
        }
        for bad in ["-1", "0.5", "9007199254740992", "1e300", "\"1\""] {
            assert!(serde_json::from_str::<Count>(bad).is_err(), "{bad}");
        }
        let read = |text| serde_json::from_str::<Number<1, 5>>(text).map_err(|error| error.to_string());
        assert_eq!((read("1"), read("5.0")), (Ok(Number(1)), Ok(Number(5))));
        for (bad, reason) in [("0", "must be a number from 1 to 5"), ("4.5", "must be a whole number")] {
            assert_eq!(Refused::reason(&read(bad).unwrap_err()), Some(reason));
        }
    }
}
