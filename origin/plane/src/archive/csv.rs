//! CSV as Postgres writes it: where its records end. A line break within quotes ends none.

/// Finds whole records in text that comes in pieces.
#[derive(Default)]
pub struct Records {
    /// What is not yet known to be a whole record.
    rest: Vec<u8>,
    is_quoted: bool,
}

impl Records {
    /// Takes a piece. Returns the records that it completes, and how many they are.
    pub fn take(&mut self, piece: &[u8]) -> (Vec<u8>, u64) {
        let (mut end, mut count) = (0, 0);
        for (index, byte) in piece.iter().enumerate() {
            match byte {
                // A quote that is doubled within quotes ends and begins them.
                b'"' => self.is_quoted = !self.is_quoted,
                b'\n' if !self.is_quoted => (end, count) = (index + 1, count + 1),
                _ => {}
            }
        }
        if end == 0 {
            self.rest.extend_from_slice(piece);
            return (Vec::new(), 0);
        }
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(&piece[..end]);
        self.rest.extend_from_slice(&piece[end..]);
        (whole, count)
    }

    /// Whether nothing is left over.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Whether a record may hold one of these ids. Ids stand between commas.
pub fn mentions(records: &[u8], ids: &std::collections::HashSet<String>) -> bool {
    let between = |byte: &u8| matches!(byte, b',' | b'\n');
    records
        .split(between)
        .filter(|field| field.len() == 36)
        .any(|field| std::str::from_utf8(field).is_ok_and(|field| ids.contains(field)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever the text is cut, its records are the same.
        #[test]
        fn records_are_whole_wherever_the_text_is_cut(
            fields in proptest::collection::vec("[a\"\n,]{0,6}", 1..8), cut: proptest::sample::Index,
        ) {
            let text: String =
                fields.iter().map(|field| format!("1,\"{}\"\n", field.replace('"', "\"\""))).collect();
            let cut = cut.index(text.len());
            let mut records = Records::default();
            let (first, count) = records.take(&text.as_bytes()[..cut]);
            let (second, more) = records.take(&text.as_bytes()[cut..]);
            prop_assert!(records.is_whole());
            prop_assert_eq!(count + more, fields.len() as u64);
            prop_assert_eq!([first, second].concat(), text.into_bytes());
        }
    }

    #[test]
    fn an_id_is_found_between_commas() {
        let id = "0190a0a0-0000-7000-8000-000000000001";
        let ids = [id.to_owned()].into();
        assert!(
            mentions(format!("{id},a\n").as_bytes(), &ids) && mentions(format!("a,{id}\n").as_bytes(), &ids)
        );
        assert!(!mentions(format!("x{id},a\n").as_bytes(), &ids));
    }
}
