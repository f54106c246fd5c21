//! The types of requests' fields: each parses a value or refuses it with a reason, and describes itself.
//!
//! A type is one form of a value, not a field: a problem names the field by its place in the body. Handlers check whatever
//! depends on more than the value (the clock, a row).

mod text;
mod values;
mod email;
mod time_zone;

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use email::Email;
pub use text::{Line, Secret, Shown, Sought, Text};
pub use time_zone::TimeZone;
pub use values::{Count, Day, Id, Moment, Number, PromiseShape, parse_day};

/// Why a value is refused. The problem repeats it word for word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(Cow<'static, str>);

impl Refused {
    /// Marks a reason: none of serde's own messages begins with it.
    const MARK: &str = "refused: ";

    pub fn new(reason: impl Into<Cow<'static, str>>) -> Refused {
        Refused(reason.into())
    }

    /// The reason in an error's message, if that is a refusal's.
    pub fn reason(message: &str) -> Option<&str> {
        message.strip_prefix(Refused::MARK)
    }
}

/// The form that serde carries.
impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", Refused::MARK, self.0)
    }
}

/// Describes the type of a single value. Its schema stands inline wherever it is used.
#[macro_export]
macro_rules! describe {
    ($type:ty, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub use describe;

/// A field of a change that may be left out, which is not the same as null.
#[derive(PartialEq)]
pub struct Given<T>(pub Option<T>);

impl<T> Default for Given<T> {
    fn default() -> Given<T> {
        Given(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given<T>, D::Error> {
        T::deserialize(deserializer).map(|value| Given(Some(value)))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A required field that may be null. Serde takes a missing `Option` for null, but not a missing struct.
#[derive(Deserialize)]
pub struct OrNull<T>(pub Option<T>);

impl<T: JsonSchema> JsonSchema for OrNull<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// A change that names at least one field; an empty one is refused.
pub struct Changes<T>(pub T);

impl<'de, T: Deserialize<'de> + Default + PartialEq> Deserialize<'de> for Changes<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Changes<T>, D::Error> {
        let changes = T::deserialize(deserializer)?;
        if changes == T::default() {
            return Err(D::Error::custom(Refused::new("must name a field to change")));
        }
        Ok(Changes(changes))
    }
}

impl<T: JsonSchema> JsonSchema for Changes<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("Changes<{}>", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.insert("minProperties".to_owned(), 1.into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        name: Given<Line<1, 4>>,
        mood: Given<Option<Number<1, 5>>>,
    }

    #[derive(Deserialize)]
    struct Draft {
        base: OrNull<Id>,
    }

    #[test]
    fn a_change_tells_null_from_what_is_left_out() {
        let read = |json| serde_json::from_str::<Changes<Sample>>(json).map(|Changes(sample)| sample);
        let sample = read(r#"{"mood":null}"#).unwrap();
        assert!(sample.name.0.is_none() && sample.mood.0 == Some(None));
        assert!(read(r#"{"name":null}"#).is_err());
        let message = read("{}").err().unwrap().to_string();
        assert_eq!(Refused::reason(&message), Some("must name a field to change"));
    }

    #[test]
    fn a_field_that_may_be_null_may_not_be_left_out() {
        let read = |json| serde_json::from_str::<Draft>(json);
        assert!(read(r#"{"base":null}"#).unwrap().base.0.is_none());
        assert!(read("{}").is_err());
    }
}
