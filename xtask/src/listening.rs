//! A person who listens to events, for the demo: one connection, whose frames arrive in a channel.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::http;
use crate::interrupt;

/// Longer than an idle stream is silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Dropped, it is cut off: its connection ends without a word.
pub struct Listener {
    frames: Receiver<Value>,
    /// The id of the last frame that had one.
    pub last: String,
}

impl Listener {
    /// Listens from now on, or after `last`.
    pub fn open(url: &str, token: &str, last: Option<&str>) -> Result<Listener> {
        let query = last.map_or_else(String::new, |last| format!("?last_event_id={last}"));
        let body = http::stream(&format!("{url}/v1/events{query}"), token)?;
        let (sender, frames) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(body).lines() {
                let Ok(line) = line else { return };
                let frame = line.strip_prefix("data: ").and_then(|text| serde_json::from_str(text).ok());
                if frame.is_some_and(|frame| sender.send(frame).is_err()) {
                    return;
                }
            }
        });
        Ok(Listener { frames, last: last.unwrap_or_default().to_owned() })
    }

    /// The next frame of a type that is as wanted, passing over others.
    pub fn expect(&mut self, kind: &str, is_wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            interrupt::pause(Duration::ZERO)?;
            let Ok(frame) = self.frames.recv_timeout(Duration::from_millis(100)) else { continue };
            if let Some(id) = frame["id"].as_str() {
                id.clone_into(&mut self.last);
            }
            if frame["type"] == kind && is_wanted(&frame) {
                return Ok(frame);
            }
        }
        bail!("no {kind} came within {} s", PATIENCE.as_secs())
    }

    /// The next message's id and text.
    pub fn hear(&mut self) -> Result<(String, String)> {
        let frame = self.expect("message.posted", |_| true)?;
        let text = |pointer: &str| frame.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let id = text("/data/message").with_context(|| format!("a frame without a message: {frame}"))?;
        Ok((id, text("/data/shown/body").unwrap_or_default()))
    }
}
