//! The format of a copy: a value in Redis that was read from Postgres.
//!
//! A header of fixed width, so that scripts can compare parts of it, then a body by kind:
//!
//! | bytes | what |
//! |-|-|
//! | 0 | wire version: 1. Any other is a miss |
//! | 1..17 | epoch that was vouched when the lease was given, 16 hex digits |
//! | 17..31 | fresh until, Unix milliseconds, 14 decimal digits |
//! | 31..45 | read from Postgres at, likewise |
//! | 45..61 | horizon: oldest transaction that the read may not have seen (`pg_snapshot_xmin`), 16 hex digits |
//! | 61 | kind: `o` one object, `l` list, `i` list with an index, `t` plain text, `s` session |
//!
//! The body follows; all lengths are big-endian. An object is `u16` + row version, and JSON. A list is `u16` + version, one
//! byte whether more follows the last item (1) and whether older items are archived (2: then `u16` + before when), and per item `u16` + cursor, `u32` + JSON. An index precedes its list: one byte
//! with the number of items, and their ids, 36 bytes each, for scripts to read. Plain text is itself. A session is
//! [`SESSION_BODY`] bytes, see [`crate::session`].

mod head;

pub use head::Head;

use std::fmt::Write as _;

use crate::ids::{parse_digits, parse_hex};

pub const WIRE_VERSION: u8 = 1;
pub const HEADER: usize = 62;
/// Bytes of a session's body: the hash of its secret (64 hex digits), the time of its last write-back to Postgres, and the
/// time when it ends in any case (each Unix milliseconds in 14 decimal digits).
pub const SESSION_BODY: usize = 64 + 14 + 14;

/// The header's record of a read: epoch, times and horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub epoch: u64,
    pub fresh_until_ms: u64,
    pub read_at_ms: u64,
    /// `pg_snapshot_xmin` of the snapshot that the value was read with.
    pub seen_xmin: u64,
}

/// A decoded value, borrowing from the bytes that Redis returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub stamp: Stamp,
    pub body: Body<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    Object {
        version: &'a str,
        json: &'a [u8],
    },
    List {
        version: &'a str,
        items: Vec<Item<'a>>,
        more: bool,
        /// Items of before this moment are archived.
        archived_before: Option<&'a str>,
    },
    Text(&'a str),
    Session(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Set in a list whose items have overlays; else empty.
    pub id: &'a str,
    /// The cursor of the page that starts after this item.
    pub cursor: &'a str,
    pub json: &'a [u8],
}

/// The most items of a cached list: one first page.
pub const LIST_LIMIT: usize = 100;
/// The most bytes of a page's items, as JSON; the page stops before the item that would pass it, and says that more follows.
/// One item is shown in any case: none is as large.
pub const LIST_BYTES: usize = 256 * 1024;
/// Items in an answer to a request without `limit`.
pub const DEFAULT_LIMIT: usize = 20;

/// Parses a query's `limit`: from 1 to [`LIST_LIMIT`], in digits, without a leading zero.
pub fn parse_limit(text: &str) -> Option<usize> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|limit| is_number && (1..=LIST_LIMIT).contains(limit))
}

impl Envelope<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let Stamp { epoch, fresh_until_ms, read_at_ms, seen_xmin } = self.stamp;
        let mut header = String::with_capacity(HEADER);
        let kind = match self.body {
            Body::Object { .. } => 'o',
            Body::List { ref items, .. } if is_indexed(items) => 'i',
            Body::List { .. } => 'l',
            Body::Text(_) => 't',
            Body::Session(_) => 's',
        };
        // Writing to a String cannot fail.
        let _ = write!(header, "{epoch:016x}{fresh_until_ms:014}{read_at_ms:014}{seen_xmin:016x}{kind}");
        let mut bytes = Vec::with_capacity(1024);
        bytes.push(WIRE_VERSION);
        bytes.extend_from_slice(header.as_bytes());
        match &self.body {
            Body::Object { version, json } => {
                put_short(&mut bytes, version);
                bytes.extend_from_slice(json);
            }
            Body::List { version, items, more, archived_before } => {
                if is_indexed(items) {
                    bytes.push(items.len() as u8);
                    items.iter().for_each(|item| bytes.extend_from_slice(item.id.as_bytes()));
                }
                put_short(&mut bytes, version);
                bytes.push(u8::from(*more) | u8::from(archived_before.is_some()) << 1);
                archived_before.iter().for_each(|before| put_short(&mut bytes, before));
                for item in items {
                    put_short(&mut bytes, item.cursor);
                    bytes.extend_from_slice(&(item.json.len() as u32).to_be_bytes());
                    bytes.extend_from_slice(item.json);
                }
            }
            Body::Text(text) | Body::Session(text) => bytes.extend_from_slice(text.as_bytes()),
        }
        bytes
    }
}

impl<'a> Body<'a> {
    /// The JSON texts that it holds: an object's, or each item's.
    pub fn texts(&self) -> Box<dyn Iterator<Item = &'a [u8]> + '_> {
        match self {
            Body::Object { json, .. } => Box::new(std::iter::once(*json)),
            Body::List { items, .. } => Box::new(items.iter().map(|item| item.json)),
            Body::Text(_) | Body::Session(_) => Box::new(std::iter::empty()),
        }
    }
}

impl<'a> Envelope<'a> {
    /// `None`, a miss, for anything malformed or written by another release.
    pub fn decode(bytes: &'a [u8]) -> Option<Envelope<'a>> {
        let (stamp, kind, rest) = open(bytes)?;
        let body = match kind {
            b'o' => {
                let (version, json) = take_short(rest)?;
                Body::Object { version, json }
            }
            b'l' | b'i' => decode_list(kind, rest, None)?,
            b't' => Body::Text(std::str::from_utf8(rest).ok()?),
            b's' => Body::Session(std::str::from_utf8(rest).ok()?),
            _ => return None,
        };
        Some(Envelope { stamp, body })
    }

    /// The first `items` of a list of which `bytes` are the first: `more` is true. `None` unless they hold those items and the
    /// beginning of another.
    pub fn decode_first(bytes: &'a [u8], items: usize) -> Option<Envelope<'a>> {
        let (stamp, kind, rest) = open(bytes)?;
        let body = matches!(kind, b'l' | b'i').then(|| decode_list(kind, rest, Some(items)))??;
        Some(Envelope { stamp, body })
    }
}

/// The header's stamp and kind, and the bytes that follow.
fn open(bytes: &[u8]) -> Option<(Stamp, u8, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    if header[0] != WIRE_VERSION {
        return None;
    }
    let text = std::str::from_utf8(&header[1..]).ok()?;
    let stamp = Stamp {
        epoch: parse_hex(text.get(0..16)?)?,
        fresh_until_ms: parse_digits(text.get(16..30)?, 14)?,
        read_at_ms: parse_digits(text.get(30..44)?, 14)?,
        seen_xmin: parse_hex(text.get(44..60)?)?,
    };
    Some((stamp, header[HEADER - 1], rest))
}

/// The index of a list of this kind, its ids concatenated, and the bytes that follow.
fn take_index(kind: u8, rest: &[u8]) -> Option<(&[u8], &[u8])> {
    if kind != b'i' {
        return Some((&[], rest));
    }
    let (count, rest) = rest.split_first()?;
    rest.split_at_checked(usize::from(*count) * ID)
}

/// A whole list, or the first items of one of which the end is missing.
fn decode_list(kind: u8, rest: &[u8], first: Option<usize>) -> Option<Body<'_>> {
    let (ids, rest) = take_index(kind, rest)?;
    let mut ids = ids.chunks(ID);
    let (version, rest) = take_short(rest)?;
    let (flags, mut rest) = rest.split_first()?;
    let archived_before = match flags & 2 {
        0 => None,
        _ => {
            let (before, after) = take_short(rest)?;
            rest = after;
            Some(before)
        }
    };
    let mut items = Vec::with_capacity(LIST_LIMIT);
    while !rest.is_empty() {
        if first == Some(items.len()) {
            return Some(Body::List { version, items, more: true, archived_before: None });
        }
        let id = match kind {
            b'i' => std::str::from_utf8(ids.next()?).ok()?,
            _ => "",
        };
        let (cursor, after) = take_short(rest)?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (json, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        items.push(Item { id, cursor, json });
        rest = after;
    }
    let is_whole = ids.next().is_none() && *flags <= 3 && is_indexed(&items) == (kind == b'i');
    (first.is_none() && is_whole).then_some(Body::List {
        version,
        items,
        more: flags & 1 == 1,
        archived_before,
    })
}

/// Bytes of an id in text.
pub const ID: usize = 36;

/// The ids in an encoded list's index, concatenated. `None` without an index.
pub fn listed_ids(bytes: &[u8]) -> Option<&[u8]> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (count, rest) = rest.split_first()?;
    let is_indexed = header[0] == WIRE_VERSION && header[HEADER - 1] == b'i';
    rest.get(..usize::from(*count) * ID).filter(|_| is_indexed)
}

fn is_indexed(items: &[Item<'_>]) -> bool {
    !items.is_empty() && items.len() <= LIST_LIMIT && items.iter().all(|item| item.id.len() == ID)
}

fn put_short(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// A text after its length, and the bytes that follow.
fn take_short(rest: &[u8]) -> Option<(&str, &[u8])> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(text).ok()?, after))
}

/// How many items a page of at most `limit` holds, from the bytes of each: see [`LIST_BYTES`].
pub fn fitting(sizes: impl IntoIterator<Item = usize>, limit: usize) -> usize {
    let mut bytes = 0;
    let fits = |size: &usize| {
        let is_first = bytes == 0;
        bytes += size;
        is_first || bytes <= LIST_BYTES
    };
    sizes.into_iter().take(limit).take_while(fits).count()
}

/// The JSON that a client gets for an object: the cached value with the overlays joined as last members. An overlay is a
/// name and a value in JSON.
pub fn render_object(json: &[u8], overlays: &[(&str, String)]) -> Vec<u8> {
    let mut rendered = Vec::with_capacity(json.len() + 32 * overlays.len());
    join_overlays(&mut rendered, json, overlays);
    rendered
}

fn join_overlays(rendered: &mut Vec<u8>, json: &[u8], overlays: &[(&str, String)]) {
    let Some((b'}', members)) = json.split_last() else { return rendered.extend_from_slice(json) };
    rendered.extend_from_slice(members);
    for (name, value) in overlays {
        if rendered.last() != Some(&b'{') {
            rendered.push(b',');
        }
        rendered.extend_from_slice(format!("\"{name}\":{value}").as_bytes());
    }
    rendered.push(b'}');
}

/// The JSON that a client gets for a list's first page: `{"items": […], "next": <cursor>|null}`, and `archived_before` if all
/// items are shown and older ones are archived. `overlay` returns the overlay of the item at a place, if it has one.
pub fn render_list(
    items: &[Item<'_>],
    more: bool,
    archived_before: Option<&str>,
    limit: usize,
    overlay: impl Fn(usize) -> Option<(&'static str, String)>,
) -> Vec<u8> {
    let shown = &items[..items.len().min(limit)];
    let mut rendered = Vec::with_capacity(32 + shown.iter().map(|item| item.json.len() + 1).sum::<usize>());
    rendered.extend_from_slice(b"{\"items\":[");
    for (index, item) in shown.iter().enumerate() {
        if index > 0 {
            rendered.push(b',');
        }
        match overlay(index) {
            Some(overlay) => join_overlays(&mut rendered, item.json, &[overlay]),
            None => rendered.extend_from_slice(item.json),
        }
    }
    rendered.extend_from_slice(b"],\"next\":");
    match shown.last() {
        // Cursors are base64url: nothing in them needs escaping.
        Some(last) if more || items.len() > shown.len() => {
            rendered.extend_from_slice(format!("\"{}\"", last.cursor).as_bytes());
        }
        _ => rendered.extend_from_slice(b"null"),
    }
    if let Some(before) = archived_before.filter(|_| items.len() == shown.len()) {
        rendered.extend_from_slice(format!(",\"archived_before\":\"{before}\"").as_bytes());
    }
    rendered.push(b'}');
    rendered
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { epoch: 7, fresh_until_ms: 1_800_000_000_000, read_at_ms: 1_799_999_000_000, seen_xmin: 4242 };

    fn list() -> Body<'static> {
        let item = |cursor, json| Item { id: "", cursor, json };
        let items = vec![item("b", br#"{"n":2}"#), item("a", br#"{"n":1}"#)];
        Body::List { version: "12", items, more: false, archived_before: None }
    }

    const ID_TEXT: &str = "0190a0a0-0000-7000-8000-000000000001";

    fn indexed() -> Body<'static> {
        let items = vec![Item { id: ID_TEXT, cursor: "b", json: b"{}" }];
        Body::List { version: "12", items, more: true, archived_before: Some("2026-05-01T00:00:00.000Z") }
    }

    #[test]
    fn what_is_encoded_decodes() {
        for body in [
            list(),
            indexed(),
            Body::Object { version: "3", json: b"{}" },
            Body::Text("member"),
            Body::Session("x"),
        ] {
            let envelope = Envelope { stamp: STAMP, body };
            assert_eq!(Envelope::decode(&envelope.encode()), Some(envelope));
        }
    }

    #[test]
    fn the_header_lies_where_scripts_look() {
        let bytes = Envelope { stamp: STAMP, body: Body::Text("x") }.encode();
        assert_eq!(&bytes[1..17], b"0000000000000007");
        assert_eq!(&bytes[17..31], b"01800000000000");
        assert_eq!(&bytes[45..61], b"0000000000001092");
        let bytes = Envelope { stamp: STAMP, body: indexed() }.encode();
        assert_eq!((bytes[61], bytes[62], &bytes[63..99]), (b'i', 1, ID_TEXT.as_bytes()));
        assert_eq!(listed_ids(&bytes), Some(ID_TEXT.as_bytes()));
        assert_eq!(listed_ids(&bytes[..98]), None);
    }

    #[test]
    fn another_wire_version_or_a_torn_value_is_a_miss() {
        let mut bytes = Envelope { stamp: STAMP, body: list() }.encode();
        for end in 0..HEADER {
            assert_eq!(Envelope::decode(&bytes[..end]), None);
        }
        assert_eq!(Envelope::decode(&bytes[..bytes.len() - 1]), None);
        bytes[0] = 2;
        assert_eq!(Envelope::decode(&bytes), None);
    }

    #[test]
    fn a_limit_slices_a_list_and_names_the_next_page() {
        let Body::List { items, .. } = list() else { unreachable!() };
        let render = |items: &[Item<'_>], more, limit| render_list(items, more, None, limit, |_| None);
        assert_eq!(render(&items, false, 1), br#"{"items":[{"n":2}],"next":"b"}"#);
        assert_eq!(render(&items, false, 2), br#"{"items":[{"n":2},{"n":1}],"next":null}"#);
        assert_eq!(render(&items, true, 2), br#"{"items":[{"n":2},{"n":1}],"next":"a"}"#);
        assert_eq!(render(&[], false, 2), br#"{"items":[],"next":null}"#);
        let archived = |limit| render_list(&items, false, Some("2026"), limit, |_| None);
        assert_eq!(archived(2), br#"{"items":[{"n":2},{"n":1}],"next":null,"archived_before":"2026"}"#);
        assert_eq!(archived(1), br#"{"items":[{"n":2}],"next":"b"}"#, "the page does not reach the archive");
        let numbered = render_list(&items, false, None, 1, |index| Some(("at", index.to_string())));
        assert_eq!(numbered, br#"{"items":[{"n":2,"at":0}],"next":"b"}"#);
    }

    #[test]
    fn a_page_stops_before_it_is_too_large() {
        assert_eq!(fitting([9; 3], 2), 2);
        assert_eq!(fitting([LIST_BYTES / 4; 9], 9), 4);
        assert_eq!(fitting([LIST_BYTES - 1, 1, 1], 9), 2);
        assert_eq!(fitting([LIST_BYTES + 1, 1], 9), 1, "one is shown in any case");
        assert_eq!(fitting([], 9), 0);
    }

    #[test]
    fn overlays_are_joined_as_last_members() {
        let role = |json: &str| [("role", json.to_owned())];
        assert_eq!(render_object(br#"{"id":1}"#, &role(r#""owner""#)), br#"{"id":1,"role":"owner"}"#);
        assert_eq!(render_object(b"{}", &role("null")), br#"{"role":null}"#);
    }
}
