//! Values that JSON has no type of its own for, as bodies have them: each in the one form that the API's description names.

use chrono::{DateTime, NaiveDate, Utc};
use optimist_shared::ids::{Uuid, parse_id};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// An id, as answers and paths write it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(pub Uuid);

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Id, &'static str> {
        parse_id(&text).map(Id).ok_or("expected an id: a UUID in lower case")
    }
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub NaiveDate);

impl TryFrom<String> for Day {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Day, &'static str> {
        parse_day(&text).map(Day).ok_or("expected a day, as 2026-11-23")
    }
}

/// A day in its one accepted form, of a year that Postgres knows: `2026-11-23`.
pub fn parse_day(text: &str) -> Option<NaiveDate> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (text.len() == 10 && digits == 8).then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()).flatten()
}

/// A point in time (RFC 3339).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Moment(pub DateTime<Utc>);

impl TryFrom<String> for Moment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Moment, &'static str> {
        let time = DateTime::parse_from_rfc3339(&text);
        time.map(|time| Moment(time.to_utc())).map_err(|_| "expected a time, as 2026-11-23T08:00:00Z")
    }
}

/// A small whole number. JSON has one kind of number, so `4.0` is 4.
#[derive(Clone, Copy, Debug)]
pub struct Whole(pub i16);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole, D::Error> {
        let number = f64::deserialize(deserializer)?;
        let whole = number.fract() == 0.0 && (f64::from(i16::MIN)..=f64::from(i16::MAX)).contains(&number);
        if whole { Ok(Whole(number as i16)) } else { Err(D::Error::custom("expected a whole number")) }
    }
}

/// Of a change's field that may be left out: null is not the same as leaving it out.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            // Never a panic; what Postgres could not keep is no moment, and no number.
            if let Ok(Moment(time)) = Moment::try_from(text.clone()) {
                prop_assert!((-4712..=10_000).contains(&chrono::Datelike::year(&time)));
            }
            if let Ok(Whole(whole)) = serde_json::from_str::<Whole>(&number.to_string()) {
                prop_assert_eq!(f64::from(whole), number);
            }
            let _ = serde_json::from_str::<Whole>(&text);
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
        let read = |text| serde_json::from_str::<Whole>(text).ok().map(|Whole(number)| number);
        assert_eq!((read("4"), read("4.0"), read("-1e2")), (Some(4), Some(4), Some(-100)));
        for bad in ["4.5", "1e9", "\"4\"", "null", "true"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
