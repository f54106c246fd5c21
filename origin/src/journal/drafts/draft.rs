//! A draft: as it is stored, sealed, and as its owner gets it.

use chrono::{DateTime, Utc};
use optimist_plane::error::Result;
use optimist_shared::ids::Uuid;
use serde::Serialize;

use crate::journal::content::Content;
use crate::journal::sealing::{Sealer, What};

/// A draft as it is stored: sealed.
#[derive(Clone, Debug)]
pub struct Stored {
    pub version: String,
    pub sealed: Vec<u8>,
    pub sibling_of: Option<Uuid>,
    pub saved_at: DateTime<Utc>,
}

#[derive(Serialize)]
pub struct Draft {
    pub id: Uuid,
    pub version: String,
    #[serde(flatten)]
    pub content: Content,
    pub sibling_of: Option<Uuid>,
    pub saved_at: DateTime<Utc>,
}

impl Draft {
    pub fn open(sealer: &Sealer, id: Uuid, stored: &Stored) -> Result<Draft> {
        let opened = sealer.open(What::Draft, id, &stored.version, &stored.sealed)?;
        Ok(Draft {
            id,
            version: stored.version.clone(),
            content: Content::from_bytes(&opened)?,
            sibling_of: stored.sibling_of,
            saved_at: stored.saved_at,
        })
    }
}
