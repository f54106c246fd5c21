//! The content of drafts and entries: its texts, tags and score, and their bounds.
//!
//! Each type checks its own bounds. Whether a prompt exists is for the handlers to check.

use std::borrow::Cow;

use optimist_plane::describe;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::sent::{Line, Number, Refused, Shown, Text};
use optimist_shared::ids::Uuid;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

/// The title of an entry.
pub type Title = Line<0, 200>;
/// The text of an entry.
pub type EntryBody = Text<1, BODY>;
/// Characters of a text.
pub const BODY: usize = 50_000;

/// How the author feels, from bad to good.
pub type Score = Number<1, 5>;

/// The sealed part of a draft or an entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Content {
    #[schemars(with = "Shown<Title>")]
    pub title: String,
    #[schemars(with = "Shown<EntryBody>")]
    pub body: String,
    #[schemars(with = "ShownTags")]
    pub tags: Vec<String>,
    #[schemars(with = "Option<Score>")]
    pub mood: Option<i16>,
    pub prompt_id: Option<Uuid>,
}

impl Content {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        to_json(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Content> {
        // serde's own message may quote the text: the log gets another.
        serde_json::from_slice(bytes)
            .map_err(|_| Error::internal("journal", &"a sealed text is of another form"))
    }
}

/// Tags in lower case, each once, in the order in which they were sent.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Tags(pub Vec<String>);

const MOST_TAGS: usize = 20;

/// The form in which a tag is kept and compared: in lower case and composed (NFC), however a keyboard spelt it.
pub fn normal_tag(tag: &str) -> String {
    tag.trim().to_lowercase().nfc().collect()
}

impl TryFrom<Vec<String>> for Tags {
    type Error = Refused;

    fn try_from(sent: Vec<String>) -> Result<Tags, Refused> {
        if sent.len() > MOST_TAGS {
            return Err(Refused::new(format!("must be at most {MOST_TAGS}")));
        }
        let mut tags: Vec<String> = Vec::with_capacity(sent.len());
        for tag in sent {
            let tag = normal_tag(&Line::<1, 40>::try_from(tag)?);
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(Tags(tags))
    }
}

impl JsonSchema for Tags {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tags".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tag = generator.subschema_for::<Line<1, 40>>();
        json_schema!({"type": "array", "maxItems": MOST_TAGS, "items": tag})
    }
}

/// Tags as answers have them. Lower case makes some letters longer, so their length has no bound here.
pub struct ShownTags;

describe!(ShownTags, {"type": "array", "maxItems": MOST_TAGS, "items": {"type": "string"}});
