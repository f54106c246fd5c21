//! Frames: what subscribers receive, serialised once for all of them. A frame's JSON is `{id?, type, circle?, at, data}`.

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::clock;
use crate::live::place::Place;
use crate::redis::Position;

/// The type of a frame that only says how far its receiver is.
pub const HEARTBEAT: &str = "heartbeat";

/// A frame in its forms: the JSON lies within the event, and the event within a chunk of HTTP's.
#[derive(Debug)]
pub struct Frame {
    /// Its position, if it has one.
    pub at: Position,
    chunk: Bytes,
    event: Range<usize>,
    json: Utf8Bytes,
    is_heartbeat: bool,
}

impl Frame {
    pub fn new(id: Option<Place>, json: &str) -> Frame {
        let head = id.map_or_else(|| "data: ".to_owned(), |id| format!("id: {id}\ndata: "));
        let at = id.map_or_else(Position::default, |id| id.at);
        let length = head.len() + json.len() + 2;
        let size = format!("{length:x}\r\n");
        let event = size.len()..size.len() + length;
        let json_at = event.start + head.len()..event.end - 2;
        let chunk = Bytes::from([&size, &head, json, "\n\n\r\n"].concat());
        // It was made from texts.
        let json = Utf8Bytes::try_from(chunk.slice(json_at)).unwrap_or_default();
        Frame { at, chunk, event, json, is_heartbeat: false }
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
    pub fn event(&self) -> Bytes {
        self.chunk.slice(self.event.clone())
    }

    /// As a server-sent event in a chunk of its own.
    pub fn chunk(&self) -> Bytes {
        self.chunk.clone()
    }

    /// As a message of a socket.
    pub fn json(&self) -> Utf8Bytes {
        self.json.clone()
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
