//! A draft: as both stores keep it, sealed, and as its owner gets it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use optimist_plane::error::Result;
use optimist_plane::http::time::Time;
use optimist_plane::redis::Items;
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::scripts::{Scalars as _, drafts as script};
use schemars::JsonSchema;
use serde::Serialize;

use crate::journal::content::{Content, Score};
use crate::journal::drafts::late::Kept;
use crate::journal::drafts::typed::{TypedBody, TypedTags, TypedTitle};
use crate::journal::sealing::{Sealer, What, is_sealed};

/// A version of a draft, sealed.
#[derive(Clone, Debug)]
pub struct Stored {
    pub version: String,
    pub sealed: Vec<u8>,
    pub sibling_of: Option<Uuid>,
    pub saved_at: DateTime<Utc>,
}

impl Stored {
    /// Reads the fields `version, sealed, saved_at, sibling_of` of a draft in Redis. `None` if a save did not write them.
    pub fn read(fields: &mut Items) -> Option<Stored> {
        Some(Stored {
            version: Some(fields.text()).filter(|version| !version.is_empty())?,
            sealed: as_sealed(fields.bytes())?,
            saved_at: DateTime::from_timestamp_millis(fields.int())?,
            sibling_of: parse_id(&fields.text()),
        })
    }

    /// The version as the scripts take it.
    pub fn to_script(&self) -> script::Version {
        script::Version {
            version: self.version.clone(),
            sealed: self.sealed.clone(),
            saved_at_ms: self.saved_at.timestamp_millis(),
            sibling_of: self.sibling_of,
        }
    }
}

/// The sealed text in what Redis has. The release before wrote it in base64.
pub fn as_sealed(bytes: Vec<u8>) -> Option<Vec<u8>> {
    if is_sealed(&bytes) { Some(bytes) } else { STANDARD.decode(bytes).ok() }
}

/// A draft's content, as its author has typed it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is a description alone")]
struct ContentShape {
    title: TypedTitle,
    body: TypedBody,
    tags: TypedTags,
    mood: Option<Score>,
    prompt_id: Option<Uuid>,
}

#[derive(Serialize, JsonSchema)]
pub struct Draft {
    pub id: Uuid,
    pub version: String,
    #[serde(flatten)]
    #[schemars(with = "ContentShape")]
    pub content: Content,
    pub sibling_of: Option<Uuid>,
    pub saved_at: Time,
}

impl Draft {
    pub fn open(sealer: &Sealer, id: Uuid, stored: &Stored) -> Result<Draft> {
        let opened = sealer.open(What::Draft, id, &stored.version, &stored.sealed)?;
        Ok(Draft {
            id,
            version: stored.version.clone(),
            content: Kept::from_bytes(&opened)?.content,
            sibling_of: stored.sibling_of,
            saved_at: stored.saved_at.into(),
        })
    }
}
