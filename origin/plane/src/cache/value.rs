//! What a cached key holds: as loaders read it, and as it lies in Redis.

use std::any::Any;
use std::sync::Arc;

use optimist_shared::envelope::{Body, Envelope, Item, Stamp};
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::scripts::Scripts;
use optimist_shared::session::CachedSession;
use tokio_postgres::Row;

use crate::error::Result;
use crate::hash::digest;
use crate::redis::Call;

/// What a loader read.
#[derive(Clone, Debug)]
pub enum Loaded {
    Object {
        version: String,
        json: Vec<u8>,
    },
    List {
        version: String,
        items: Vec<ListItem>,
        more: bool,
    },
    Text(String),
    Session(CachedSession),
    /// What lives in Redis in a form of its own, and is no copy: its domain knows the type.
    Live(Arc<dyn Any + Send + Sync>),
    /// There is no such thing: nothing is cached.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// In a list whose items something is joined to.
    pub id: Option<Uuid>,
    pub cursor: String,
    pub json: Vec<u8>,
}

impl ListItem {
    /// As it is shown: its id is for scripts alone.
    pub fn shown(&self) -> Item<'_> {
        Item { id: "", cursor: &self.cursor, json: &self.json }
    }

    fn id_text(&self) -> String {
        self.id.map_or_else(String::new, |id| id.to_string())
    }
}

/// What a loader wants put into Redis in the trip that fills.
pub trait Alongside: Send + Sync {
    /// The script's call, for values that were read under this epoch.
    fn prepare(self: Box<Self>, epoch: u64) -> Box<dyn Prepared>;
}

/// A call that is ready to be sent with the fill, and understands its answer.
pub trait Prepared: Send + Sync {
    fn call<'a>(&'a self, scripts: &'a Scripts) -> Call<'a>;

    /// What Redis has now, as the domain has it; `None` if the script refused.
    fn read(&self, answer: ::redis::Value) -> Option<Arc<dyn Any + Send + Sync>>;
}

/// A loader's result, and the oldest transaction that its snapshot may not have seen.
pub struct Snapshot {
    pub seen_xmin: u64,
    pub loaded: Loaded,
    /// What else is put into Redis in the trip that fills.
    pub alongside: Option<Box<dyn Alongside>>,
}

impl Snapshot {
    pub fn new(seen_xmin: i64, loaded: Loaded) -> Snapshot {
        Snapshot { seen_xmin: seen_xmin.cast_unsigned(), loaded, alongside: None }
    }

    /// A list of rows of `<columns>, seen`: those asked for and, if there are more, one beyond; where there are none, one row
    /// of nothing but the snapshot. Its version is a digest of what it shows.
    pub fn page(rows: &[Row], limit: usize, item: impl Fn(&Row) -> Result<ListItem>) -> Result<Snapshot> {
        let seen = rows.first().map_or(0, |row| row.get("seen"));
        let found = rows.iter().filter(|row| row.get::<_, Option<Uuid>>("id").is_some());
        let mut items = found.map(item).collect::<Result<Vec<_>>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let mut shown: Vec<&[u8]> = items.iter().map(|item| item.json.as_slice()).collect();
        shown.push(if more { b"more" } else { b"all" });
        Ok(Snapshot::new(seen, Loaded::List { version: digest(&shown), items, more }))
    }
}

/// The envelope of what was read. `None` for what is not cached.
pub fn encode(snapshot: &Snapshot, epoch: u64, read_at_ms: u64, fresh_ms: u64) -> Option<Vec<u8>> {
    let mut stamp =
        Stamp { epoch, fresh_until_ms: read_at_ms + fresh_ms, read_at_ms, seen_xmin: snapshot.seen_xmin };
    let session;
    let ids;
    let body = match &snapshot.loaded {
        Loaded::Missing | Loaded::Live(_) => return None,
        Loaded::Object { version, json } => Body::Object { version, json },
        Loaded::List { version, items, more } => Body::List {
            version,
            items: {
                ids = items.iter().map(ListItem::id_text).collect::<Vec<_>>();
                let items = items.iter().zip(&ids);
                items.map(|(item, id)| Item { id, cursor: &item.cursor, json: &item.json }).collect()
            },
            more: *more,
        },
        Loaded::Text(text) => Body::Text(text),
        Loaded::Session(cached) => {
            // A session slides; its key's expiry says when it is over.
            stamp.fresh_until_ms = cached.absolute_until_ms;
            session = cached.encode();
            Body::Session(&session)
        }
    };
    Some(Envelope { stamp, body }.encode())
}

/// What an envelope holds. `None` for what is none.
pub fn decode(bytes: &[u8]) -> Option<Loaded> {
    Some(match Envelope::decode(bytes)?.body {
        Body::Object { version, json } => Loaded::Object { version: version.to_owned(), json: json.to_vec() },
        Body::List { version, items, more } => Loaded::List {
            version: version.to_owned(),
            items: items
                .iter()
                .map(|item| ListItem {
                    id: parse_id(item.id),
                    cursor: item.cursor.to_owned(),
                    json: item.json.to_vec(),
                })
                .collect(),
            more,
        },
        Body::Text(text) => Loaded::Text(text.to_owned()),
        Body::Session(body) => Loaded::Session(CachedSession::decode(body)?),
    })
}
