//! What Redis held for a request: read, but not judged.

use optimist_shared::envelope::{Body, Envelope, ID, listed_ids};
use optimist_shared::limits::LimitState;
use optimist_shared::reactions::Counts;
use optimist_shared::session::Access;
use optimist_shared::vouching::Vouched;

pub struct Found {
    pub vouched: Option<Vouched>,
    pub value: Vec<u8>,
    pub access: Vec<u8>,
    pub counts: FoundCounts,
    pub limits: Vec<LimitState>,
}

impl Found {
    pub fn access(&self, believed: impl Fn(&Envelope<'_>) -> bool) -> Option<Access> {
        let envelope = Envelope::decode(&self.access).filter(|envelope| believed(envelope))?;
        match envelope.body {
            Body::Text(access) => Access::parse(access),
            _ => None,
        }
    }
}

/// Reaction counts as Redis held them.
pub struct FoundCounts {
    /// The ids of the list's items, one behind the other. The list may have changed since it was read itself.
    pub of: Option<Vec<u8>>,
    /// Those of each item, or of the one message, one a line.
    pub lines: Vec<u8>,
}

impl FoundCounts {
    /// From a page, as the script makes it.
    pub fn page(mut page: Vec<u8>) -> FoundCounts {
        let end = page.iter().position(|byte| *byte == b'\n').unwrap_or(page.len());
        let lines = page.get(end + 1..).unwrap_or_default().to_vec();
        page.truncate(end);
        FoundCounts { of: Some(page), lines }
    }

    /// Whether they are those of the first `limit` items of a list, or of as many as it has.
    pub fn are_of(&self, list: &[u8], limit: usize) -> bool {
        let (Some(of), Some(ids)) = (&self.of, listed_ids(list)) else { return true };
        of.len() >= ids.len().min(limit * ID) && ids.starts_with(of)
    }

    /// Those of the items of `envelope`, of an epoch that is believed.
    pub fn of(&self, envelope: &Envelope<'_>, believed: impl Fn(u64) -> bool) -> Vec<Option<Counts>> {
        if let (Some(of), Body::List { items, .. }) = (&self.of, &envelope.body) {
            let mut shown = items.iter().map(|item| item.id.as_bytes());
            if !of.chunks(ID).all(|id| shown.next() == Some(id)) {
                return Vec::new();
            }
        }
        let lines = self.lines.split(|byte| *byte == b'\n').map(Counts::parse_live);
        lines.map(|live| live.filter(|(epoch, _)| believed(*epoch)).map(|(_, counts)| counts)).collect()
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
        let page = |items: usize| FoundCounts::page(format!("{}\nx", ID_TEXT.repeat(items)).into_bytes());
        assert!(page(2).are_of(&list(2), 20));
        assert!(page(2).are_of(&list(3), 2), "no more are asked for");
        assert!(!page(2).are_of(&list(3), 20), "too short");
        assert!(!page(3).are_of(&list(2), 20), "of another list");
        assert!(!FoundCounts::page(Vec::new()).are_of(&list(1), 20));
        assert!(FoundCounts::page(Vec::new()).are_of(b"", 20), "there is no list");
    }
}
