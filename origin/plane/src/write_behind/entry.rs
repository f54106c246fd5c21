//! An entry of a write-behind stream, and the number of its partition.

use optimist_shared::ids::Partition;

use crate::redis::Position;

/// An entry's value, position and generation.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    pub at: Position,
    pub generation: i64,
    pub value: &'a str,
}

/// A partition's number in Postgres.
pub fn number(partition: Partition) -> i16 {
    partition.index() as i16
}
