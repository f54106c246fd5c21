//! `visit.lua`: a visit of a circle, recorded as an entry in its partition's stream.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid};
use crate::keys::Key;
use crate::reactions::{Promise, WRITES_BOUND};

pub static VISIT: Script = script!("visit": "writes_core.lua", "visit.lua");

/// The outcome of a visit in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    Done,
    /// The partition takes no writes of this epoch: it must be opened.
    Closed,
    /// The stream holds as many entries as it takes, all waiting for Postgres.
    Full,
}

pub fn call(user: Uuid, circle: Uuid) -> Call<'static> {
    let partition = Partition::of(circle);
    Call::new(&VISIT)
        .keys([Key::Vouch, Key::Ledger, Key::Writes].map(|key| key.of_partition(partition)))
        .text(user.to_string())
        .text(circle.to_string())
        .text(WRITES_BOUND)
}

/// `None` if the reply is malformed.
pub fn read(reply: &mut impl Scalars) -> Option<Visited> {
    Some(match reply.text().as_str() {
        "done" => Visited::Done,
        "closed" => Visited::Closed,
        "full" => Visited::Full,
        _ => return None,
    })
}

/// The answer to a client: 202.
pub fn answer(promise: Promise) -> Vec<u8> {
    format!(r#"{{"promise":"{}"}}"#, promise.as_str()).into()
}
