//! Redis's protocol (RESP2) for the Worker: encodes commands, decodes replies, and parses the URL of Redis. No I/O.
//!
//! `redis-protocol` parses frames; this crate counts how many make an answer. (On the other hosts the host talks to
//! Redis.)

mod address;

pub use address::Address;

use bytes::Bytes;
use optimist_edge_core::host::{Command, Reply, Value};
use redis_protocol::resp2::decode::{decode_bytes, decode_range};
use redis_protocol::resp2::types::{BytesFrame, RangeFrame};

/// Encodes commands as Redis reads them: arrays of bulk strings.
pub fn encode(commands: &[Command]) -> Vec<u8> {
    let words = commands.iter().flat_map(|command| &command.0);
    let mut bytes = Vec::with_capacity(words.map(|word| word.len() + 16).sum());
    for Command(words) in commands {
        bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

/// Decodes the replies to `expected` commands. `None` if the bytes are anything but exactly these.
pub fn decode(mut bytes: Bytes, expected: usize) -> Option<Vec<Reply>> {
    let mut replies = Vec::with_capacity(expected.min(bytes.len()));
    while replies.len() < expected {
        let (frame, length) = decode_bytes(&bytes).ok()??;
        replies.push(reply(frame));
        bytes = bytes.slice(length..);
    }
    bytes.is_empty().then_some(replies)
}

fn reply(frame: BytesFrame) -> Reply {
    if let BytesFrame::Error(text) = &frame {
        return Err(text.to_string());
    }
    let mut values = Vec::new();
    flatten(frame, &mut values);
    Ok(values)
}

/// As in Spin's interface: nested arrays become part of the outer one, and empty ones vanish.
fn flatten(frame: BytesFrame, values: &mut Vec<Value>) {
    match frame {
        BytesFrame::Null => values.push(Value::Nil),
        BytesFrame::Integer(number) => values.push(Value::Int(number)),
        BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => {
            values.push(Value::Bytes(bytes.to_vec()));
        }
        BytesFrame::Error(text) => values.push(Value::Bytes(text.as_bytes().to_vec())),
        BytesFrame::Array(frames) => frames.into_iter().for_each(|frame| flatten(frame, values)),
    }
}

/// A whole reply at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    pub length: usize,
    /// The message, if the reply is an error.
    pub error: Option<String>,
}

/// The reply at the front of a buffer, once it is whole. An `Err` describes malformed bytes.
pub fn first(buffer: &[u8]) -> Result<Option<First>, String> {
    let found = decode_range(buffer).map_err(|error| error.to_string())?;
    Ok(found.map(|(frame, length)| {
        let error = match frame {
            RangeFrame::Error((start, end)) => {
                Some(String::from_utf8_lossy(&buffer[start..end]).into_owned())
            }
            _ => None,
        };
        First { length, error }
    }))
}

/// Counts the replies at the front of a growing buffer, and scans each reply once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    replies: usize,
    length: usize,
}

impl Batch {
    /// The length in bytes of the first `replies` replies, once all have arrived; the next batch starts after them.
    pub fn whole(&mut self, buffer: &[u8], replies: usize) -> Result<Option<usize>, String> {
        while self.replies < replies {
            let Some(First { length, .. }) = first(buffer.get(self.length..).unwrap_or_default())? else {
                return Ok(None);
            };
            (self.replies, self.length) = (self.replies + 1, self.length + length);
        }
        Ok(Some(std::mem::take(self).length))
    }
}

#[cfg(test)]
mod tests;
