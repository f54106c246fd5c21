//! The value of a cached key: as loaders read it, and as Redis holds it.

use std::any::Any;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use optimist_shared::envelope::{Body, Envelope, Item, Stamp, fitting};
use optimist_shared::ids::{Id, Uuid, parse_id};
use optimist_shared::keys::BoundKey;
use optimist_shared::scripts::Call;
use optimist_shared::scripts::lease::Fill;
use optimist_shared::session::CachedSession;
use tokio_postgres::Row;

use crate::error::{Error, Result};
use crate::hash::digest;
use crate::redis::Items;

/// A value that a loader read.
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
        /// Items of before this moment are archived, and the list ends there.
        archived_before: Option<String>,
    },
    Text(String),
    Session(CachedSession),
    /// A value that Redis holds in a form of its own, not as a copy. Its domain knows the type.
    Live(Arc<dyn Any + Send + Sync>),
    /// The thing does not exist: nothing is cached.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// Set in a list whose items have overlays.
    pub id: Option<Uuid>,
    pub cursor: String,
    pub json: Vec<u8>,
}

impl ListItem {
    /// The item as it is shown: its id is only for scripts.
    pub fn shown(&self) -> Item<'_> {
        Item { id: "", cursor: &self.cursor, json: &self.json }
    }

    fn id_text(&self) -> String {
        self.id.map_or_else(String::new, |id| id.to_string())
    }
}

/// A value that a loader installs in Redis in the step that fills.
pub trait Alongside: Send + Sync {
    /// The call of the script that installs it, for values that were read under this epoch.
    fn call(&self, epoch: u64) -> Call<'static>;

    /// The call of the script that fills as well. Its reply begins as that of a fill does.
    fn filling<'a>(&self, fill: Fill<'a>, epoch: u64) -> Call<'a>;

    /// The value that Redis has now, in the domain's type; `None` if the script refused.
    fn read(&self, reply: &mut Items) -> Option<Arc<dyn Any + Send + Sync>>;
}

/// An id of the key that a loader is to read. A key always has those that its template names.
pub fn id_of(key: &BoundKey, id: Id) -> Result<Uuid> {
    let found = key.ids().get(id);
    found.ok_or_else(|| Error::internal("cache", &format_args!("{:?} has no {}", key.key(), id.as_str())))
}

/// A loader's result, and its snapshot's horizon: the oldest transaction that it may not have seen.
pub struct Snapshot {
    pub seen_xmin: u64,
    pub loaded: Loaded,
    /// Whether it may be filled. Not if it ends by itself sooner than its copy would.
    pub is_kept: bool,
    /// A further value to install in the step that fills.
    pub alongside: Option<Box<dyn Alongside>>,
}

impl Snapshot {
    pub fn new(seen_xmin: i64, loaded: Loaded) -> Snapshot {
        Snapshot { seen_xmin: seen_xmin.cast_unsigned(), loaded, is_kept: true, alongside: None }
    }

    /// Builds a list from rows of `<columns>, seen`: those asked for and, if there are more, one beyond. Without any, one row
    /// holds only the snapshot. `follows` says that there are more even if the rows do not. A page that would be too large stops
    /// earlier: see [`LIST_BYTES`]. The list's version is a digest of what it shows.
    ///
    /// [`LIST_BYTES`]: optimist_shared::envelope::LIST_BYTES
    pub fn page(
        rows: &[Row],
        limit: usize,
        follows: bool,
        item: impl Fn(&Row) -> Result<ListItem>,
    ) -> Result<Snapshot> {
        let seen = rows.first().map_or(0, |row| row.get("seen"));
        let found = rows.iter().filter(|row| row.get::<_, Option<Uuid>>("id").is_some());
        let mut items = found.map(item).collect::<Result<Vec<_>>>()?;
        let fits = fitting(items.iter().map(|item| item.json.len()), limit);
        let more = follows || items.len() > fits;
        items.truncate(fits);
        let mut shown: Vec<&[u8]> = items.iter().map(|item| item.json.as_slice()).collect();
        shown.push(if more { b"more" } else { b"all" });
        Ok(Snapshot::new(seen, Loaded::List { version: digest(&shown), items, more, archived_before: None }))
    }

    /// Tells that a list's items of before this moment are archived. It shows in the list's version.
    pub fn archived_before(mut self, moment: Option<DateTime<Utc>>) -> Snapshot {
        let moment = moment.map(|moment| moment.to_rfc3339_opts(SecondsFormat::Millis, true));
        if let (Loaded::List { version, archived_before, .. }, Some(moment)) = (&mut self.loaded, moment) {
            *version = digest(&[version.as_bytes(), moment.as_bytes()]);
            *archived_before = Some(moment);
        }
        self
    }
}

/// The envelope of a snapshot. `None` if its value is not cached.
pub fn encode(snapshot: &Snapshot, epoch: u64, read_at_ms: u64, fresh_ms: u64) -> Option<Vec<u8>> {
    let mut stamp =
        Stamp { epoch, fresh_until_ms: read_at_ms + fresh_ms, read_at_ms, seen_xmin: snapshot.seen_xmin };
    let session;
    let ids;
    let body = match &snapshot.loaded {
        Loaded::Missing | Loaded::Live(_) => return None,
        Loaded::Object { version, json } => Body::Object { version, json },
        Loaded::List { version, items, more, archived_before } => Body::List {
            version,
            items: {
                ids = items.iter().map(ListItem::id_text).collect::<Vec<_>>();
                let items = items.iter().zip(&ids);
                items.map(|(item, id)| Item { id, cursor: &item.cursor, json: &item.json }).collect()
            },
            more: *more,
            archived_before: archived_before.as_deref(),
        },
        Loaded::Text(text) => Body::Text(text),
        Loaded::Session(cached) => {
            // A session slides; its key's expiry ends it.
            stamp.fresh_until_ms = cached.absolute_until_ms;
            session = cached.encode();
            Body::Session(&session)
        }
    };
    Some(Envelope { stamp, body }.encode())
}

/// The value in an envelope. `None` if the bytes are no envelope.
pub fn decode(bytes: &[u8]) -> Option<Loaded> {
    Some(match Envelope::decode(bytes)?.body {
        Body::Object { version, json } => Loaded::Object { version: version.to_owned(), json: json.to_vec() },
        Body::List { version, items, more, archived_before } => Loaded::List {
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
            archived_before: archived_before.map(str::to_owned),
        },
        Body::Text(text) => Loaded::Text(text.to_owned()),
        Body::Session(body) => Loaded::Session(CachedSession::decode(body)?),
    })
}
