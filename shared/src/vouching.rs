//! The value of a partition's vouching key: the relay's statement that Redis may be trusted. The `vouch` script writes it.

use crate::envelope::Stamp;
use crate::ids::parse_hex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouched {
    pub epoch: u64,
    /// The relay has lost Postgres: copies of any age are served, marked.
    pub degraded: bool,
}

impl Vouched {
    /// Parses 16 hex digits, followed by `d` when degraded. The value is empty when nobody vouches.
    pub fn parse(value: &[u8]) -> Option<Vouched> {
        let text = std::str::from_utf8(value).ok()?;
        let (epoch, mode) = text.split_at_checked(16)?;
        let degraded = match mode {
            "" => false,
            "d" => true,
            _ => return None,
        };
        Some(Vouched { epoch: parse_hex(epoch)?, degraded })
    }

    /// Whether a copy counts: it carries this epoch and is fresh. Freshness is not required when degraded.
    pub fn trusts(&self, stamp: &Stamp, now_ms: u64) -> bool {
        stamp.epoch == self.epoch && (self.degraded || stamp.fresh_until_ms > now_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_one_spelling(value in "[0-9a-fA-F+]{15,17}[dx]?|\\PC*") {
            if let Some(Vouched { epoch, degraded }) = Vouched::parse(value.as_bytes()) {
                prop_assert_eq!(format!("{epoch:016x}{}", if degraded { "d" } else { "" }), value);
            }
        }
    }

    #[test]
    fn it_is_parsed_whole() {
        assert_eq!(Vouched::parse(b"000000000000000a"), Some(Vouched { epoch: 10, degraded: false }));
        assert_eq!(Vouched::parse(b"000000000000000ad"), Some(Vouched { epoch: 10, degraded: true }));
        assert_eq!(Vouched::parse(b""), None);
        assert_eq!(Vouched::parse(b"xyz"), None);
    }
}
