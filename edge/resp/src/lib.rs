//! Redis's protocol (RESP2), as the Worker speaks it: commands into bytes, and bytes into replies; and the URL that says where
//! Redis is. No I/O.
//!
//! Frames are `redis-protocol`'s; ours is how many make an answer. (On the other hosts the host speaks to Redis.)

mod address;

pub use address::Address;

use bytes::Bytes;
use optimist_edge_core::host::{Command, Reply, Value};
use redis_protocol::resp2::decode::{decode_bytes, decode_range};
use redis_protocol::resp2::types::{BytesFrame, RangeFrame};

/// Commands as Redis reads them: arrays of bulk strings.
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

/// The replies to so many commands. `None` for anything but exactly these.
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

/// As Spin's interface does: nested arrays become part of the outer one, and empty ones vanish.
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
    /// What it says, if it is an error.
    pub error: Option<String>,
}

/// The reply at the front of a buffer, once it is whole. The error says what is wrong with the bytes.
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

/// Counts the replies at the front of a buffer that grows, and looks at each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    replies: usize,
    length: usize,
}

impl Batch {
    /// How many bytes so many replies take, once they are there; the next batch begins behind them.
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
