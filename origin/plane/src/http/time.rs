//! A point in time in an answer: RFC 3339 in UTC, always with three digits of a second, so that texts order as times do.

use std::borrow::Cow;
use std::error::Error;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};
use tokio_postgres::types::{FromSql, Type};

/// A time, as precise as it was read; its text is cut to milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Time(pub DateTime<Utc>);

impl From<DateTime<Utc>> for Time {
    fn from(time: DateTime<Utc>) -> Time {
        Time(time)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Time, Box<dyn Error + Sync + Send>> {
        DateTime::from_sql(kind, raw).map(Time)
    }

    fn accepts(kind: &Type) -> bool {
        <DateTime<Utc> as FromSql>::accepts(kind)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DateTime::<Utc>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_digits_of_a_second() {
        for (micros, text) in [
            (1_770_000_000_000_000, "2026-02-02T02:40:00.000Z"),
            (1_770_000_000_120_000, "2026-02-02T02:40:00.120Z"),
            (1_770_000_000_123_987, "2026-02-02T02:40:00.123Z"),
        ] {
            let time = Time(DateTime::from_timestamp_micros(micros).unwrap());
            assert_eq!(serde_json::to_value(time).unwrap(), text);
        }
    }
}
