//! Properties of every envelope, and of bytes that are none.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A body's parts, owned.
#[derive(Clone, Debug)]
enum Owned {
    Object(String, Vec<u8>),
    List(String, Vec<(String, String, Vec<u8>)>, bool, Option<String>),
    Text(String),
    Session(String),
}

impl Owned {
    fn encode(&self, stamp: Stamp) -> Vec<u8> {
        let body = match self {
            Owned::Object(version, json) => Body::Object { version, json },
            Owned::List(version, items, more, before) => {
                let items = items.iter().map(|(id, cursor, json)| Item { id, cursor, json }).collect();
                Body::List { version, items, more: *more, archived_before: before.as_deref() }
            }
            Owned::Text(text) => Body::Text(text),
            Owned::Session(text) => Body::Session(text),
        };
        let envelope = Envelope { stamp, body };
        let bytes = envelope.encode();
        assert_eq!(Envelope::decode(&bytes), Some(envelope));
        bytes
    }
}

fn bodies() -> impl Strategy<Value = Owned> {
    let json = || vec(any::<u8>(), 0..20);
    let items = |id: &'static str, least| vec((id, "[a-zA-Z0-9_-]{0,12}", json()), least..5);
    let before = || proptest::option::of("[0-9TZ:-]{0,24}");
    let list = move |items| ("[0-9]{1,4}", items, any::<bool>(), before());
    prop_oneof![
        ("[0-9]{1,4}", json()).prop_map(|(version, json)| Owned::Object(version, json)),
        list(items("", 0).boxed())
            .prop_map(|(version, items, more, before)| Owned::List(version, items, more, before)),
        list(items("[0-9a-f-]{36}", 1).boxed())
            .prop_map(|(version, items, more, before)| Owned::List(version, items, more, before)),
        "\\PC{0,20}".prop_map(Owned::Text),
        "[0-9a-f]{92}".prop_map(Owned::Session),
    ]
}

fn stamps() -> impl Strategy<Value = Stamp> {
    const MILLIS: std::ops::Range<u64> = 0..100_000_000_000_000;
    (any::<u64>(), MILLIS, MILLIS, any::<u64>()).prop_map(|(epoch, fresh_until_ms, read_at_ms, seen_xmin)| {
        Stamp { epoch, fresh_until_ms, read_at_ms, seen_xmin }
    })
}

/// A decoded value encodes to the same bytes, and takes no more memory than they account for.
fn is_sound(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Some(envelope) = Envelope::decode(bytes) {
        if let Body::List { items, .. } = &envelope.body {
            prop_assert!(items.len() * 6 <= bytes.len());
        }
        prop_assert_eq!(envelope.encode(), bytes);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_an_envelope_or_a_miss(bytes in vec(any::<u8>(), 0..200)) {
        is_sound(&bytes)?;
    }

    #[test]
    fn a_header_and_any_bytes_are_an_envelope_or_a_miss(
        header in "\u{1}[0-9a-fA-F+]{16}[0-9+]{28}[0-9a-f]{16}[olits]",
        body in vec(prop_oneof![0..3u8, any::<u8>()], 0..80),
    ) {
        is_sound(&[header.as_bytes(), &body].concat())?;
    }

    #[test]
    fn whatever_befalls_an_envelope_it_is_one_or_none(
        stamp in stamps(),
        body in bodies(),
        at: usize,
        byte: u8,
        length: usize,
    ) {
        let mut bytes = body.encode(stamp);
        is_sound(&bytes[..length % bytes.len()])?;
        let at = at % bytes.len();
        bytes[at] = byte;
        is_sound(&bytes)?;
    }

    /// The first bytes of a value tell either nothing or the same as the whole.
    #[test]
    fn the_first_bytes_agree_with_the_whole(stamp in stamps(), body in bodies(), length: usize, first in 0..5usize) {
        let bytes = body.encode(stamp);
        let cut = &bytes[..length % (bytes.len() + 1)];
        let whole = Envelope::decode(&bytes).unwrap();
        if let Some(envelope) = Envelope::decode_first(cut, first) {
            let Body::List { version, items, .. } = whole.body.clone() else { panic!("not a list") };
            prop_assert!(items.len() > first);
            let body = Body::List { version, items: items[..first].to_vec(), more: true, archived_before: None };
            prop_assert_eq!(envelope, Envelope { stamp, body });
        }
        if let Some(head) = Head::decode(cut) {
            prop_assert_eq!(head.stamp, stamp);
            match whole.body {
                Body::Object { version, .. } => prop_assert!(version == head.version && !head.is_list),
                Body::List { version, items, .. } => {
                    prop_assert!(version == head.version && head.is_list);
                    let named = items.iter().map(|item| item.id.as_bytes()).filter(|id| !id.is_empty());
                    prop_assert!(head.ids().eq(named));
                }
                Body::Text(_) | Body::Session(_) => prop_assert!(false, "it has no version"),
            }
        }
        prop_assert!(Head::decode(&bytes).is_some() == matches!(body, Owned::Object(..) | Owned::List(..)));
    }

    #[test]
    fn any_first_bytes_are_read_or_not(bytes in vec(any::<u8>(), 0..200), first in 0..5usize) {
        let bytes = [&[WIRE_VERSION][..], &[b'0'; 60], &bytes].concat();
        if let Some(Envelope { body: Body::List { items, .. }, .. }) = Envelope::decode_first(&bytes, first) {
            prop_assert_eq!(items.len(), first);
        }
        let _ = Head::decode(&bytes);
    }

    #[test]
    fn lists_and_overlays_are_json(numbers in vec(any::<i32>(), 0..6), more: bool, limit in 1..8usize) {
        let json: Vec<Vec<u8>> = numbers.iter().map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
        let items: Vec<Item<'_>> = json.iter().map(|json| Item { id: "", cursor: "c", json }).collect();
        let rendered = render_list(&items, more, None, limit, |place| Some(("place", place.to_string())));
        let parsed: serde_json::Value = serde_json::from_slice(&rendered).unwrap();
        let shown = parsed["items"].as_array().unwrap();
        prop_assert_eq!(shown.len(), numbers.len().min(limit));
        for (place, (item, number)) in shown.iter().zip(&numbers).enumerate() {
            prop_assert_eq!(item, &serde_json::json!({"n": number, "place": place}));
        }
        prop_assert_eq!(parsed["next"].is_null(), shown.is_empty() || (!more && numbers.len() <= limit));
    }
}
