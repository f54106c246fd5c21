//! The content of drafts and entries: its texts and score, and their bounds.
//!
//! Each type checks its own bounds. Whether a prompt exists is for the handlers to check.

use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::sent::{Line, Number, Shown, Text};
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::journal::tagging::ShownTags;

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
