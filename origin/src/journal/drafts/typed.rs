//! The fields of a draft: whatever its author has typed so far.
//!
//! Only sizes are bounded, generously. The final save checks the rest, and says what is wrong: a line break in a title must not cost
//! the text below it.

use std::borrow::Cow;

use optimist_plane::http::sent::Refused;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::journal::content::BODY;

/// Ten times what an entry takes.
pub type TypedTitle = Typed<2_000>;
/// As much as an entry takes: more would not fit into a request.
pub type TypedBody = Typed<BODY>;
const MOST_TAGS: usize = 50;
type TypedTag = Typed<100>;

/// At most so many characters, of any kind.
#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Typed<const MOST: usize>(pub String);

impl<const MOST: usize> TryFrom<String> for Typed<MOST> {
    type Error = Refused;

    fn try_from(text: String) -> Result<Self, Refused> {
        if text.chars().count() > MOST {
            return Err(Refused::new(format!("must have at most {MOST} characters")));
        }
        Ok(Typed(text))
    }
}

impl<const MOST: usize> JsonSchema for Typed<MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Typed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 0, "maxLength": MOST})
    }
}

/// Tags as they were typed, also those that an entry would not take.
#[derive(Default, Deserialize)]
#[serde(try_from = "Vec<TypedTag>")]
pub struct TypedTags(pub Vec<String>);

impl TryFrom<Vec<TypedTag>> for TypedTags {
    type Error = Refused;

    fn try_from(sent: Vec<TypedTag>) -> Result<TypedTags, Refused> {
        if sent.len() > MOST_TAGS {
            return Err(Refused::new(format!("must be at most {MOST_TAGS}")));
        }
        Ok(TypedTags(sent.into_iter().map(|Typed(tag)| tag).collect()))
    }
}

impl JsonSchema for TypedTags {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TypedTags".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tag = generator.subschema_for::<TypedTag>();
        json_schema!({"type": "array", "maxItems": MOST_TAGS, "items": tag})
    }
}
