//! `append.lua`: the relay appends events to a partition's stream and moves its cursor.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::Partition;
use crate::keys::Key;

pub static APPEND: Script = script!("append": "append.lua");

/// The events of one partition. Positions are the streams' ids, `<xid>-<seq>`.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    pub partition: Partition,
    /// The cursor as it was read; `None` if there was none.
    pub from: Option<&'a str>,
    /// The new cursor.
    pub to: &'a str,
    /// Entries that the stream keeps.
    pub kept: u64,
    /// Entries before this position are trimmed.
    pub trimmed: Option<&'a str>,
    pub events: &'a [Event<'a>],
}

/// An entry of the stream.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    pub at: &'a str,
    pub fields: &'a [(&'static str, String)],
}

impl<'a> Batch<'a> {
    pub fn call(&self) -> Call<'a> {
        let lives_ms = u64::from(Key::Events.row().kept_seconds().unwrap_or_default()) * 1000;
        let mut call = Call::new(&APPEND)
            .keys([Key::Events, Key::Cursor, Key::Wake].map(|key| key.of_partition(self.partition)))
            .text(self.from.unwrap_or_default())
            .text(self.to)
            .number(self.kept)
            .number(lives_ms)
            .text(self.trimmed.unwrap_or_default());
        for event in self.events {
            call = call.text(event.at).number(event.fields.len() as u64 * 2);
            for (name, value) in event.fields {
                call = call.text(*name).text(value.as_str());
            }
        }
        call
    }
}

/// The outcome of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    Yes,
    /// Another relay appended, or Redis lost its newest seconds: the cursor as it is, empty if there is none.
    CursorIsAt(String),
}

pub fn read(reply: &mut impl Scalars) -> Appended {
    match reply.text() {
        done if done == "ok" => Appended::Yes,
        at => Appended::CursorIsAt(at),
    }
}
