//! Frames: what subscribers receive, serialised once for all of them. A frame's JSON is `{id?, type, circle?, at, data}`.

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::clock;
use crate::live::place::Place;
use crate::redis::Position;

/// The type of a frame that only says how far its receiver is.
pub const HEARTBEAT: &str = "heartbeat";

/// A frame in both forms: its JSON lies within the event's text.
#[derive(Debug)]
pub struct Frame {
    /// Its position, if it has one.
    pub at: Position,
    text: Bytes,
    json: Range<usize>,
    is_heartbeat: bool,
}

impl Frame {
    pub fn new(id: Option<Place>, json: &str) -> Frame {
        let head = id.map_or_else(|| "data: ".to_owned(), |id| format!("id: {id}\ndata: "));
        let range = head.len()..head.len() + json.len();
        let at = id.map_or_else(Position::default, |id| id.at);
        Frame { at, text: Bytes::from([&head, json, "\n\n"].concat()), json: range, is_heartbeat: false }
    }

    /// A frame of the gateway's own, or a state.
    pub fn of(id: Option<Place>, kind: &str, topic: Option<&str>, data: &str) -> Frame {
        let frame = Frame::new(id, &render(id, kind, topic, clock::now(), data));
        Frame { is_heartbeat: kind == HEARTBEAT, ..frame }
    }

    pub fn is_heartbeat(&self) -> bool {
        self.is_heartbeat
    }

    /// As a server-sent event.
    pub fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// As a message of a socket.
    pub fn json(&self) -> Bytes {
        self.text.slice(self.json.clone())
    }
}

/// The JSON of a frame. `data` is JSON too.
pub fn render(id: Option<Place>, kind: &str, topic: Option<&str>, at: DateTime<Utc>, data: &str) -> String {
    // Kinds are plain words, and topics ids.
    let id = id.map_or_else(String::new, |id| format!(r#""id":"{id}","#));
    let topic = topic.map_or_else(String::new, |topic| format!(r#""circle":"{topic}","#));
    let at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    format!(r#"{{{id}"type":"{kind}",{topic}"at":"{at}","data":{data}}}"#)
}
