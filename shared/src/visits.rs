//! Visits of circles, as they are written behind: a line in the circle's partition's stream each.

use crate::ids::Partition;
use crate::keys::{Key, Parameters};
use crate::reactions::{Promise, WRITES_BOUND};

/// A visit to be noted, as the script `visit` takes it.
#[derive(Clone, Debug)]
pub struct Visit {
    keys: [String; 3],
    arguments: [String; 3],
}

impl Visit {
    /// `None` if the parameters name no user or circle.
    pub fn new(parameters: &Parameters) -> Option<Visit> {
        let (user, circle) = (parameters.user?, parameters.circle?);
        let partition = Partition::of(circle);
        let keys = [Key::Vouch, Key::Ledger, Key::Writes].map(|key| key.of_partition(partition));
        Some(Visit { keys, arguments: [user.to_string(), circle.to_string(), WRITES_BOUND.to_owned()] })
    }

    pub fn keys(&self) -> Vec<&str> {
        self.keys.iter().map(String::as_str).collect()
    }

    pub fn arguments(&self) -> Vec<&[u8]> {
        self.arguments.iter().map(String::as_bytes).collect()
    }

    /// The answer to a client: 202.
    pub fn answer(promise: Promise) -> Vec<u8> {
        format!(r#"{{"promise":"{}"}}"#, promise.as_str()).into()
    }
}
