//! `mark_read.lua`: up to where a member has read in a circle, recorded as an entry in the stream of the circle's partition.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid};
use crate::keys::Key;
use crate::reactions::WRITES_BOUND;
use crate::vouching::Vouched;

pub static MARK_READ: Script = script!("mark_read": "envelope_core.lua", "writes_core.lua", "mark_read.lua");

/// The outcome in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    Done,
    /// The partition takes no writes of this epoch: it must be opened.
    Closed,
    /// The stream holds as many entries as it takes, all waiting for Postgres.
    Full,
    /// Redis has no head of the circle that shows a message of this number.
    Unknown,
}

pub fn call(user: Uuid, circle: Uuid, number: u64) -> Call<'static> {
    let partition = Partition::of(circle);
    let lives_ms = u64::from(Key::ReadAhead.row().kept_seconds().unwrap_or_default()) * 1_000;
    Call::new(&MARK_READ)
        .keys([Key::Vouch, Key::Ledger, Key::Writes].map(|key| key.of_partition(partition)))
        .keys([Key::circle_head(circle), Key::read_ahead(circle, user)].map(|key| key.name()))
        .text(user.to_string())
        .text(circle.to_string())
        .number(number)
        .text(WRITES_BOUND)
        .number(lives_ms)
}

/// `None` if the reply is malformed.
pub fn read(reply: &mut impl Scalars) -> Option<Marked> {
    Some(match reply.text().as_str() {
        "done" => Marked::Done,
        "closed" => Marked::Closed,
        "full" => Marked::Full,
        "unknown" => Marked::Unknown,
        _ => return None,
    })
}

/// The number of a marker that is ahead of Postgres, if it was set under the vouched epoch.
pub fn ahead(value: &[u8], vouched: Vouched) -> Option<i64> {
    let (under, number) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let (epoch, _) = under.split_once('-')?;
    (epoch == format!("{:016x}", vouched.epoch)).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_of_another_epoch_says_nothing() {
        let vouched = Vouched { epoch: 10, degraded: false };
        assert_eq!(ahead(b"000000000000000a-3 12", vouched), Some(12));
        for value in ["000000000000000b-3 12", "12", "", "000000000000000a 12", "000000000000000a-3 x"] {
            assert_eq!(ahead(value.as_bytes(), vouched), None, "{value}");
        }
    }
}
