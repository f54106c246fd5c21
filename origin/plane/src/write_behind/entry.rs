//! An entry of a write-behind stream, and the partition that it stands in.

use optimist_shared::ids::Partition;

use crate::redis::Position;

/// An entry's value, where it stood, and in which generation.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    pub at: Position,
    pub generation: i64,
    pub value: &'a str,
}

/// A partition as Postgres knows it.
pub fn number(partition: Partition) -> i16 {
    partition.index() as i16
}
