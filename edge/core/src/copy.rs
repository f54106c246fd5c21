//! A cached value as far as the edge reads it. Large values are not moved for a conditional read, or for a few items of a list:
//! the first trip asks for their first bytes, which mostly suffice. [`crate::cache`] makes the answer.

use optimist_shared::envelope::{Body, DEFAULT_LIMIT, Envelope, Head, LIST_BYTES, Stamp};

use crate::cache::Wanted;

/// The bytes of a value that Redis returned.
#[derive(Default)]
pub struct Bytes {
    bytes: Vec<u8>,
    /// How many bytes were asked for; `None` for all.
    asked: Option<usize>,
}

/// A value, or a part of it.
pub enum Copy<'a> {
    /// All of it, or the first items of a list and the knowledge that more follow.
    Read(Envelope<'a>),
    /// Enough to name its entity tag.
    Head(Head<'a>),
}

/// Bytes that an item of a list mostly has at most. A longer one costs a second trip.
const ITEM: usize = 1024;
/// Bytes that the largest item of a cached list has: a message of 8,000 characters, of up to four bytes each.
const LARGEST_ITEM: usize = 36 * 1024;

/// How many bytes of a value to ask for at first; `None` for all of them.
pub fn reach(wanted: Wanted, is_conditional: bool) -> Option<usize> {
    // The tag is mostly the client's.
    few_items(wanted, ITEM).or(is_conditional.then_some(Head::BYTES))
}

/// How many bytes to ask for if the first ones did not suffice.
pub fn further_reach(wanted: Wanted) -> Option<usize> {
    few_items(wanted, LARGEST_ITEM).filter(|bytes| *bytes < LIST_BYTES)
}

/// Bytes of a list's first few items, if no more are wanted.
fn few_items(wanted: Wanted, item: usize) -> Option<usize> {
    match wanted {
        Wanted::First { limit } if limit < DEFAULT_LIMIT => Some(Head::BYTES + limit * item),
        _ => None,
    }
}

impl Bytes {
    pub fn new(bytes: Vec<u8>, asked: Option<usize>) -> Bytes {
        Bytes { bytes, asked }
    }

    /// The first bytes at least, among them a list's whole index.
    pub fn first(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the value may have more bytes.
    pub fn are_cut(&self) -> bool {
        self.asked.is_some_and(|asked| self.bytes.len() >= asked)
    }

    /// Reads them for an answer with so many items. `None`, a miss, if they are no value of ours.
    pub fn read(&self, items: usize) -> Option<Copy<'_>> {
        if !self.are_cut() {
            return Envelope::decode(&self.bytes).map(Copy::Read);
        }
        let first = Envelope::decode_first(&self.bytes, items).map(Copy::Read);
        first.or_else(|| Head::decode(&self.bytes).map(Copy::Head))
    }
}

impl Copy<'_> {
    pub fn stamp(&self) -> &Stamp {
        match self {
            Copy::Read(envelope) => &envelope.stamp,
            Copy::Head(head) => &head.stamp,
        }
    }

    /// The ids of a list's items, as far as they are known. Empty for a list without an index.
    pub fn ids(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Copy::Read(Envelope { body: Body::List { items, .. }, .. }) => {
                Box::new(items.iter().map(|item| item.id.as_bytes()))
            }
            Copy::Read(_) => Box::new(std::iter::empty()),
            Copy::Head(head) => Box::new(head.ids()),
        }
    }
}
