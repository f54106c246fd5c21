//! Every Lua file has its face, and the offsets that scripts use are the encoder's.

use std::collections::HashMap;
use std::ops::Range;

use super::*;
use crate::envelope::{Body, Envelope, ID, Item, Stamp};
use crate::ids::Uuid;
use crate::session::{CachedSession, hash_secret};

/// Numbers that a prelude gives names to: `local A, B = 1, 2`.
fn constants(lua: &str) -> HashMap<&str, usize> {
    let lines = lua.lines().filter_map(|line| line.strip_prefix("local ")?.split_once(" = "));
    lines
        .flat_map(|(names, values)| names.split(", ").zip(values.split(", ")))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

fn place_of(part: &[u8], bytes: &[u8]) -> Range<usize> {
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(part)).collect();
    assert_eq!(found.len(), 1, "{} is there once", String::from_utf8_lossy(part));
    found[0]..found[0] + part.len()
}

#[test]
fn scripts_look_where_the_encoder_writes() {
    let lua = constants(include_str!("envelope_core.lua"));
    let mut named = std::collections::HashSet::new();
    let mut check = |name: &'static str, expected: usize| {
        named.insert(name);
        assert_eq!(lua.get(name), Some(&expected), "{name}");
    };
    // Each part has other digits.
    let stamp = Stamp {
        epoch: 0x1111_2222_3333_4444,
        fresh_until_ms: 55_556_666_777_788,
        read_at_ms: 10_203_040_506_070,
        seen_xmin: 0x9999_aaaa_bbbb_cccc,
    };
    let ids = [1, 2].map(|id| Uuid::from_u128(id).to_string());
    let items = ids.iter().map(|id| Item { id, cursor: "", json: b"{}" }).collect();
    let list = Envelope { stamp, body: Body::List { version: "v", items, more: false } }.encode();
    let cached = CachedSession {
        secret_hash: hash_secret(&[7; 32]),
        written_back_ms: 12_121_212_121_212,
        absolute_until_ms: 34_343_434_343_434,
    };
    let session = Envelope { stamp, body: Body::Session(&cached.encode()) }.encode();

    // Lua counts from 1 and includes the last.
    let mut part = |first: &'static str, last: &'static str, place: Range<usize>| {
        check(first, place.start + 1);
        check(last, place.end);
    };
    for bytes in [&list, &session] {
        part("EPOCH_FIRST", "EPOCH_LAST", place_of(b"1111222233334444", bytes));
        part("FRESH_UNTIL_FIRST", "FRESH_UNTIL_LAST", place_of(b"55556666777788", bytes));
        part("SEEN_FIRST", "SEEN_LAST", place_of(b"9999aaaabbbbcccc", bytes));
    }
    part("SECRET_HASH_FIRST", "SECRET_HASH_LAST", place_of(cached.secret_hash.as_bytes(), &session));
    part("WRITTEN_BACK_FIRST", "WRITTEN_BACK_LAST", place_of(b"12121212121212", &session));
    part("ABSOLUTE_UNTIL_FIRST", "ABSOLUTE_UNTIL_LAST", place_of(b"34343434343434", &session));
    let first_id = place_of(ids[0].as_bytes(), &list);
    check("ITEM_IDS", first_id.start + 1);
    check("ID_LENGTH", ID);
    check("ITEM_COUNT", first_id.start);
    check("KIND", first_id.start - 1);
    check("WIRE_VERSION", list[0].into());
    check("INDEXED_LIST", list[lua["KIND"] - 1].into());
    assert_eq!((list[lua["ITEM_COUNT"] - 1], place_of(ids[1].as_bytes(), &list).start), (2, first_id.end));
    assert_eq!(named.len(), lua.len(), "every constant is compared: {lua:?}");
}

#[test]
fn every_lua_file_is_a_script_or_a_prefix_of_one() {
    let scripts = Scripts::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".lua")) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let is_used = scripts.all().iter().any(|script| match name.ends_with("_core") {
            true => script.source().contains(&text),
            false => script.name == name && script.source().ends_with(&text),
        });
        assert!(is_used, "{name}");
    }
}
