//! Presence, typing and messages that are being composed: the values and bounds that edge and origin share. Redis alone holds
//! them; the scripts of [`crate::scripts::presence`] and [`crate::scripts::message_drafts`] read and write them.

/// What a device says of its person. The declaration's order is that of strength: of a person's devices the strongest counts.
///
/// A person hides on purpose, and being busy is said on purpose too; so neither is undone by another device that merely is
/// online. A device that idles says nothing about one that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Away,
    Online,
    Busy,
    /// Others see the person as offline.
    Invisible,
}

impl State {
    pub const ALL: [State; 4] = [State::Away, State::Online, State::Busy, State::Invisible];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Away => "away",
            State::Online => "online",
            State::Busy => "busy",
            State::Invisible => "invisible",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// The state that others see; `None` if they see nothing of the person.
    pub fn shown(self) -> Option<State> {
        (self != State::Invisible).then_some(self)
    }
}

/// The shortest lease that an operator may set, and the longest, in seconds.
pub const LEASE_SECONDS: std::ops::RangeInclusive<u32> = 1..=1_800;
/// Clients refresh a lease at a third of it, so that one lost request ends none.
pub const DEFAULT_LEASE_SECONDS: u32 = 300;
/// Devices of one person. The one whose lease ends first makes room for another.
pub const MOST_DEVICES: u32 = 10;
/// Characters of a device's name.
pub const DEVICE_LENGTH: usize = 64;

/// Milliseconds after which someone who is present is shown to their circles anew, though nothing has changed: joined circles
/// learn of them, and what was lost is mended.
pub const RENEWAL_MS: u64 = 240_000;
/// Milliseconds that a circle shows someone without being told anew.
pub const SHOWN_MS: u64 = 600_000;

/// Milliseconds that someone types after saying so.
pub const TYPING_MS: u64 = 30_000;
/// People who are shown as typing in a circle at once. More would tell a reader nothing.
pub const MOST_TYPING: u32 = 100;
/// People who are listed as present in a circle. Where there are more, they are only counted.
pub const MOST_LISTED: u32 = 1_000;

/// Characters of a message, and of its draft.
pub const MESSAGE_DRAFT_LENGTH: usize = 8_000;
/// Milliseconds that a draft of a message is kept after its last change.
pub const MESSAGE_DRAFT_MS: u64 = 3_600_000;

/// Whether a text may name a device.
pub fn is_device(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=DEVICE_LENGTH).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Whether a text may be kept as the draft of a message: it is kept as it was typed, with all its space, or empty.
pub fn is_message_draft(text: &str) -> bool {
    // Bytes first: a character has at most four.
    text.len() <= 4 * MESSAGE_DRAFT_LENGTH && text.chars().count() <= MESSAGE_DRAFT_LENGTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_one_spelling_and_grow_in_strength() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!((State::parse("offline"), State::parse("Online")), (None, None));
        assert_eq!(State::ALL.into_iter().max(), Some(State::Invisible));
        assert!(State::Busy > State::Online && State::Online > State::Away);
        assert_eq!(State::ALL.map(|state| state.shown().is_some()), [true, true, true, false]);
    }

    #[test]
    fn devices_and_drafts_have_bounds() {
        assert!(is_device("phone-1.0_a") && is_device(&"x".repeat(64)));
        for device in ["", "a b", "a:b", "ä", &"x".repeat(65)] {
            assert!(!is_device(device), "{device}");
        }
        assert!(
            is_message_draft("") && is_message_draft(" ") && is_message_draft(&"\u{1f33f}".repeat(8_000))
        );
        for draft in [&"x".repeat(8_001), &"\u{1f33f}".repeat(8_001)] {
            assert!(!is_message_draft(draft));
        }
    }

    /// A circle shows someone until it is told anew, even if that takes a round more.
    #[test]
    fn whoever_is_present_is_renewed_in_time() {
        const { assert!(2 * RENEWAL_MS + 60_000 < SHOWN_MS) };
        let kept = |key: crate::keys::Key| u64::from(key.row().kept_seconds().unwrap()) * 1_000;
        assert_eq!(kept(crate::keys::Key::Online), SHOWN_MS);
        assert_eq!(kept(crate::keys::Key::Typing), TYPING_MS);
        assert_eq!(kept(crate::keys::Key::MessageDraft), MESSAGE_DRAFT_MS);
        assert!(kept(crate::keys::Key::Presence) > u64::from(*LEASE_SECONDS.end()) * 1_000);
    }
}
