//! `counts.lua`: the reaction counts of a cached list's items, as one page that is kept beside the counts.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::envelope::{ID, listed_ids};
use crate::keys::{BoundKey, Key};
use crate::reactions::Counts;

pub static COUNTS: Script = script!("counts": "envelope_core.lua", "counts.lua");

/// Asks for the counts of a list's first `items`. `None` if the list belongs to no circle.
pub fn call(list: &BoundKey, items: usize, is_kept: bool) -> Option<Call<'static>> {
    let keys = [*list, list.beside(Key::Counts)?, list.beside(Key::CountsPage)?];
    Some(Call::new(&COUNTS).keys(keys.map(|key| key.name())).number(items as u64).flag(is_kept))
}

pub fn read(reply: &mut impl Scalars) -> Shown {
    Shown::page(reply.bytes())
}

/// Reaction counts as Redis held them: those of a list's items, or of one message.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The ids of the list's items, concatenated; `None` for one message. The list may have changed after it was read itself.
    of: Option<Vec<u8>>,
    /// The counts of each item, one a line.
    lines: Vec<u8>,
}

impl Shown {
    /// From a page, as the script returns and keeps it.
    pub fn page(mut page: Vec<u8>) -> Shown {
        let end = page.iter().position(|byte| *byte == b'\n').unwrap_or(page.len());
        let lines = page.get(end + 1..).unwrap_or_default().to_vec();
        page.truncate(end);
        Shown { of: Some(page), lines }
    }

    /// From a message's field of its circle's counts.
    pub fn of_message(field: Vec<u8>) -> Shown {
        Shown { of: None, lines: field }
    }

    /// Whether these are the counts of the first `limit` items of a list, or of all of them if there are fewer.
    pub fn are_of(&self, list: &[u8], limit: usize) -> bool {
        let (Some(of), Some(ids)) = (&self.of, listed_ids(list)) else { return true };
        of.len() >= ids.len().min(limit * ID) && ids.starts_with(of)
    }

    /// The counts of a list's first items, by their ids, or of the one message; where `trusted` accepts their epoch. None if the
    /// page is of another list.
    pub fn of<'a>(
        &self,
        ids: impl Iterator<Item = &'a [u8]>,
        trusted: impl Fn(u64) -> bool,
    ) -> Vec<Option<Counts>> {
        if let Some(of) = &self.of
            && !of.chunks(ID).zip(ids).all(|(counted, listed)| counted == listed)
        {
            return Vec::new();
        }
        let lines = self.lines.split(|byte| *byte == b'\n').map(Counts::parse_live);
        lines.map(|live| live.filter(|(epoch, _)| trusted(*epoch)).map(|(_, counts)| counts)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID_TEXT: &str = "0190a0a0-0000-7000-8000-000000000001";

    /// A list's envelope as far as its index.
    fn list(items: u8) -> Vec<u8> {
        let mut bytes = [&[1][..], &[b'0'; 60], b"i", &[items]].concat();
        bytes.extend(ID_TEXT.repeat(usize::from(items)).into_bytes());
        bytes
    }

    #[test]
    fn a_page_is_of_the_items_that_it_names() {
        let page = |items: usize| Shown::page(format!("{}\nx", ID_TEXT.repeat(items)).into_bytes());
        assert!(page(2).are_of(&list(2), 20));
        assert!(page(2).are_of(&list(3), 2), "no more are asked for");
        assert!(!page(2).are_of(&list(3), 20), "too short");
        assert!(!page(3).are_of(&list(2), 20), "of another list");
        assert!(!Shown::page(Vec::new()).are_of(&list(1), 20));
        assert!(Shown::page(Vec::new()).are_of(b"", 20), "there is no list");
        assert!(Shown::of_message(Vec::new()).are_of(&list(1), 20), "it is of no list");
    }
}
