//! What a draft and an entry hold, and the bounds of a journal's texts.

use std::ops::RangeInclusive;

use optimist_shared::ids::Uuid;
use serde::{Deserialize, Serialize};

use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{text, verbatim};
use optimist_plane::http::sent::{Id, Whole};

/// Characters of a journal's texts, and how many tags there may be.
pub const TITLE: RangeInclusive<usize> = 0..=200;
pub const BODY: RangeInclusive<usize> = 0..=50_000;
pub const NOTE: RangeInclusive<usize> = 0..=2_000;
pub const TAG: RangeInclusive<usize> = 1..=40;
pub const TAGS: usize = 20;
pub const MOOD: RangeInclusive<i16> = 1..=5;

/// What is sealed of a draft or an entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    pub title: String,
    pub body: String,
    pub tags: Vec<String>,
    pub mood: Option<i16>,
    pub prompt_id: Option<Uuid>,
}

/// What a text is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Just as it stands in the editor: somebody is in the midst of it.
    Draft,
    /// Not empty, and without the space around it.
    Entry,
}

impl Content {
    pub fn checked(
        form: Form,
        title: Option<&str>,
        body: &str,
        tags: Option<&[String]>,
        mood: Option<Whole>,
        prompt_id: Option<Id>,
    ) -> Result<Content> {
        let title = title.unwrap_or_default();
        let (title, body) = match form {
            Form::Draft => (verbatim("title", title, TITLE, false)?, verbatim("body", body, BODY, true)?),
            Form::Entry => (text("title", title, TITLE, false)?, text("body", body, 1..=*BODY.end(), true)?),
        };
        Ok(Content {
            title,
            body,
            tags: checked_tags("tags", tags.unwrap_or_default())?,
            mood: mood.map(|Whole(mood)| checked_mood(mood)).transpose()?,
            prompt_id: prompt_id.map(|Id(prompt)| prompt),
        })
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        optimist_plane::http::body::to_json(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Content> {
        serde_json::from_slice(bytes).map_err(|error| Error::internal("journal", &error.classify_text()))
    }
}

/// What is wrong with a sealed text that opened: never the text itself.
trait ClassifyText {
    fn classify_text(&self) -> &'static str;
}

impl ClassifyText for serde_json::Error {
    fn classify_text(&self) -> &'static str {
        "a sealed text is of another form"
    }
}

pub fn checked_mood(mood: i16) -> Result<i16> {
    if MOOD.contains(&mood) { Ok(mood) } else { Err(Error::invalid("mood", "must be a number from 1 to 5")) }
}

/// Tags in lower case, each once, in their order.
pub fn checked_tags(field: &'static str, tags: &[String]) -> Result<Vec<String>> {
    if tags.len() > TAGS {
        return Err(Error::invalid(field, format!("must be at most {TAGS}")));
    }
    let mut checked: Vec<String> = Vec::with_capacity(tags.len());
    for tag in tags {
        let tag = text(field, tag, TAG, false)?.to_lowercase();
        if !checked.contains(&tag) {
            checked.push(tag);
        }
    }
    Ok(checked)
}
