//! An event: a settled row of the outbox, as the code that writes its consequences sees it.

use chrono::{DateTime, Utc};
use optimist_shared::ids::{Uuid, parse_id};
use serde_json::Value;
use tokio_postgres::Row;

/// A row of the outbox.
pub struct Event {
    pub(super) at_row: (String, i64),
    pub kind: String,
    pub actor: Option<Uuid>,
    payload: Value,
    pub at: DateTime<Utc>,
}

impl Event {
    /// From the columns xid as text, seq, kind, actor, payload, created_at.
    pub(super) fn from_row(row: &Row) -> Event {
        Event {
            at_row: (row.get(0), row.get(1)),
            kind: row.get(2),
            actor: row.get(3),
            payload: row.get(4),
            at: row.get(5),
        }
    }

    /// From the fields of a stream's entry. Its row is not told from others.
    pub fn of_entry(kind: String, actor: Option<Uuid>, at: DateTime<Utc>, payload: Value) -> Event {
        Event { at_row: (String::new(), 0), kind, actor, payload, at }
    }

    /// The outbox's row: its transaction, as Postgres writes it, and its place among the transaction's rows.
    pub fn row(&self) -> (&str, i64) {
        (&self.at_row.0, self.at_row.1)
    }

    pub fn payload(&self) -> &Value {
        &self.payload
    }

    /// An id in its payload.
    pub fn id(&self, name: &str) -> Option<Uuid> {
        parse_id(self.payload.get(name)?.as_str()?)
    }

    /// The ids of a list in its payload.
    pub fn ids(&self, name: &str) -> Vec<Uuid> {
        let listed = self.payload.get(name).and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(|id| parse_id(id.as_str()?)).collect()
    }

    /// Whether a flag of its payload is set.
    pub fn is(&self, name: &str) -> bool {
        self.payload.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn number(&self, name: &str) -> Option<i32> {
        self.payload.get(name)?.as_i64()?.try_into().ok()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.payload.get(name)?.as_str()
    }
}

/// Progress with some events.
pub struct Done {
    /// The number of events handled.
    pub events: usize,
    /// Rows written for them, approximately.
    pub written: u64,
    /// The next event is begun, and continues after this person.
    pub up_to: Option<Uuid>,
}
