//! `mine.lua`: a person's unflushed reactions to some messages of a circle.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid, parse_id};
use crate::keys::Key;
use crate::reactions::Kind;

pub static MINE: Script = script!("mine": "writes_core.lua", "mine.lua");

/// What a snapshot lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unflushed {
    /// The message, the kind, and whether the person reacted last; each message and kind once.
    Entries(Vec<(Uuid, Kind, bool)>),
    /// Flushed since the snapshot: read again.
    Late,
    /// The partition must be opened first.
    Closed,
}

/// Asks for the entries after a snapshot of this generation and position, under this epoch.
pub fn call(
    circle: Uuid,
    epoch: u64,
    generation: i64,
    position: String,
    user: Uuid,
    messages: &[Uuid],
) -> Call<'static> {
    let partition = Partition::of(circle);
    let call = Call::new(&MINE)
        .keys([Key::Vouch, Key::Ledger, Key::Writes].map(|key| key.of_partition(partition)))
        .hex(epoch)
        .text(generation.to_string())
        .text(position)
        .text(user.to_string());
    messages.iter().fold(call, |call, message| call.text(message.to_string()))
}

pub fn read(reply: &mut impl Scalars) -> Unflushed {
    match reply.text().as_str() {
        "done" => {
            let mut entries = Vec::new();
            while let Some(message) = parse_id(&reply.text()) {
                let kind = reply.text().parse().ok().and_then(Kind::from_place);
                let reacted = reply.text() == "1";
                // A kind that only a newer release knows is passed over.
                entries.extend(kind.map(|kind| (message, kind, reacted)));
            }
            Unflushed::Entries(entries)
        }
        "late" => Unflushed::Late,
        _ => Unflushed::Closed,
    }
}
