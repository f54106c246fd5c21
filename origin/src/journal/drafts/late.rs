//! Late saves: an auto-save that arrives after its draft was saved as an entry is no draft of its own if the entry has its text.
//!
//! A client that numbers its editor's edits is told exactly. Without, a text counts as contained if the entry has its words
//! in their order. Clocks decide nothing. Any other text stays a sibling.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::http::sent::Id;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::journal::content::Content;
use crate::journal::sealing::{Sealer, What};
use crate::journal::tagging::normal_tag;

/// An editor's edit: `number` grows with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DraftEdit")]
pub struct Edit {
    /// The tab or screen that the text is typed in: an id that the client makes when it opens one.
    #[serde(deserialize_with = "id")]
    pub editor: Uuid,
    #[schemars(range(min = 0, max = 4_294_967_295u32))]
    pub number: u32,
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    Id::deserialize(deserializer).map(|Id(id)| id)
}

/// A draft's text, and the edit that it is of, as they are sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub content: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
}

/// What a draft was saved as: the entry, and its editor's last edit in there.
#[derive(Clone, Copy, Debug)]
pub struct SavedAs {
    pub entry: Uuid,
    pub edit: Option<Edit>,
}

impl Kept {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        to_json(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Kept> {
        // serde's own message may quote the text: the log gets another.
        serde_json::from_slice(bytes)
            .map_err(|_| Error::internal("drafts", &"a sealed text is of another form"))
    }
}

statements! {
    const SAVED_AS: &str = "-- drafts::saved_as
select d.entry_id, d.editor, d.edit, e.version, e.sealed
from drafts d left join journal_entries e on e.user_id = d.user_id and e.id = d.entry_id
where d.user_id = $1 and d.id = $2 and d.entry_id is not null";
}

/// The entry that a draft was saved as.
pub struct Outcome {
    pub entry: Uuid,
    /// Whether it has the text in question.
    pub contains: bool,
}

/// Looks for the entry that the draft was saved as. `None` if it was not, or a month ago.
pub async fn outcome(
    ctx: &Ctx,
    sealer: &Sealer,
    user: Uuid,
    draft: Uuid,
    late: &Kept,
) -> Result<Option<Outcome>> {
    let Some(row) = ctx.db.query_opt(SAVED_AS, &[&user, &draft]).await? else { return Ok(None) };
    let entry: Uuid = row.get(0);
    let (editor, number): (Option<Uuid>, Option<i64>) = (row.get(1), row.get(2));
    let is_earlier = |edit: Edit| Some(edit.editor) == editor && Some(i64::from(edit.number)) <= number;
    if late.edit.is_some_and(is_earlier) {
        return Ok(Some(Outcome { entry, contains: true }));
    }
    // The entry may be deleted since.
    let (version, sealed): (Option<i64>, Option<Vec<u8>>) = (row.get(3), row.get(4));
    let contains = match (version, sealed) {
        (Some(version), Some(sealed)) => {
            let opened = sealer.open(What::Entry, entry, &version.to_string(), &sealed)?;
            has_all_of(&Content::from_bytes(&opened)?, &late.content)
        }
        _ => false,
    };
    Ok(Some(Outcome { entry, contains }))
}

/// Whether everything that was typed in `late` is in `saved`.
fn has_all_of(saved: &Content, late: &Content) -> bool {
    let mut tags = late.tags.iter().map(|tag| normal_tag(tag)).filter(|tag| !tag.is_empty());
    has_words_of(&saved.title, &late.title)
        && has_words_of(&saved.body, &late.body)
        && tags.all(|tag| saved.tags.contains(&tag))
}

/// Whether a text has the words of another in their order. One of them may have been typed half.
fn has_words_of(saved: &str, late: &str) -> bool {
    let mut whole = saved.split_whitespace();
    let mut may_be_half = true;
    late.split_whitespace().all(|word| {
        whole.any(|known| {
            let is_half = known != word && may_be_half && known.starts_with(word);
            may_be_half &= !is_half;
            known == word || is_half
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_contained_if_no_word_of_it_is_missing() {
        let saved = "Dear diary,\nit rained all day. I read.";
        for late in ["", "Dear dia", "Dear diary,\nit rained all d", " Dear diary,  I read. ", saved] {
            assert!(has_words_of(saved, late), "{late:?}");
        }
        for late in [
            "Dear me",
            "I read. Dear diary,",
            "De di",
            "diary, diary,",
            "Dear diary, it rained all day. I reads",
        ] {
            assert!(!has_words_of(saved, late), "{late:?}");
        }
    }

    #[test]
    fn an_edit_is_sealed_beside_the_text_and_may_be_missing() {
        let content = Content { title: "Monday".to_owned(), ..Content::default() };
        let edit = Some(Edit { editor: Uuid::from_u128(7), number: 3 });
        for edit in [None, edit] {
            let kept = Kept { content: content.clone(), edit };
            let bytes = kept.to_bytes().unwrap();
            assert_eq!(Kept::from_bytes(&bytes).unwrap(), kept);
        }
        let before = content.to_bytes().unwrap();
        assert_eq!(Kept::from_bytes(&before).unwrap(), Kept { content, edit: None });
    }
}
