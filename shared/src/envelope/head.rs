//! What the first bytes of a value tell without the rest: enough for its entity tag.

use super::{ID, LIST_LIMIT, Stamp, open, take_index, take_short};

/// The beginning of an object or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub stamp: Stamp,
    pub version: &'a str,
    pub is_list: bool,
    /// The ids that a list's index names, concatenated.
    ids: &'a [u8],
}

impl<'a> Head<'a> {
    /// Bytes that hold the head of any value of ours: header, a full index, and a version of up to 256 bytes.
    pub const BYTES: usize = super::HEADER + 1 + LIST_LIMIT * ID + 2 + 256;

    /// From a value's first bytes. `None` if they do not hold the head.
    pub fn decode(bytes: &'a [u8]) -> Option<Head<'a>> {
        let (stamp, kind, rest) = open(bytes)?;
        let is_list = match kind {
            b'l' | b'i' => true,
            b'o' => false,
            _ => return None,
        };
        let (ids, rest) = take_index(kind, rest)?;
        let (version, _) = take_short(rest)?;
        Some(Head { stamp, version, is_list, ids })
    }

    /// The ids of an indexed list's items.
    pub fn ids(&self) -> impl Iterator<Item = &'a [u8]> {
        self.ids.chunks(ID)
    }
}
