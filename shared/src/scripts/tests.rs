//! Every Lua file has its Rust module, every module passes its words in the script's order, and the scripts use the encoder's
//! offsets. Tests on a real Redis check what the scripts do.

use std::collections::HashMap;
use std::ops::Range;

use super::admit::Admission;
use super::limit::Charge;
use super::react::Reaction;
use super::*;
use crate::envelope::{Body, Envelope, ID, Item, Stamp};
use crate::ids::{Partition, Uuid};
use crate::keys::{Companions, Key};
use crate::limits::Limit;
use crate::presence::State;
use crate::reactions::{Counts, Kind};
use crate::recent::Recent;
use crate::session::{CachedSession, Token, hash_secret};
use crate::vouching::Vouched;

/// The numbers that a prelude names: `local A, B = 1, 2`.
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
    let list =
        Envelope { stamp, body: Body::List { version: "v", items, more: false, archived_before: None } }
            .encode();
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
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".lua")) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(str::trim_start);
        let is_code =
            |line: &&str| !line.is_empty() && (!line.starts_with("--") || line.starts_with("-- Bound: "));
        let text: String = lines.filter(is_code).flat_map(|line| [line, "\n"]).collect();
        let is_used = ALL.iter().any(|script| match name.ends_with("_core") {
            true => script.source().contains(&text),
            false => script.name == name && script.source().ends_with(&text),
        });
        assert!(is_used, "{name}");
    }
}

/// The suite compares them with the largest calls.
#[test]
fn every_script_states_its_bound() {
    for script in ALL {
        assert!(script.bound().is_some(), "the head of {}.lua states no bound of a known form", script.name);
    }
}

/// A call's words after the script: keys, a bar, arguments; `-` for an empty one.
fn words(call: &Call<'_>) -> String {
    let shown = |word: &[u8]| {
        if word.is_empty() { "-".to_owned() } else { String::from_utf8_lossy(word).into_owned() }
    };
    let keys = call.keys.iter().map(|key| shown(key.as_bytes()));
    let arguments = call.arguments.iter().map(|argument| shown(argument));
    keys.chain(["|".to_owned()]).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// In the order in which each file's head lists its KEYS and ARGV.
#[test]
fn the_edges_calls_are_in_their_scripts_order() {
    let [user, session, circle, message] = [1, 2, 3, 4].map(Uuid::from_u128);
    let (mine, theirs) = (Partition::of(user), Partition::of(circle));
    let of_circle = format!("circle:{{{theirs}}}:{circle}");
    let token = Token { user, session, secret: [7; 32] };
    let hash = hash_secret(&[7; 32]);
    let charge = |rows: &[Limit]| {
        Charge::new(rows.iter().map(|limit| limit.row()).collect(), "subject", "entry".to_owned())
    };

    let mut admission =
        Admission { token, charge: charge(&[Limit::CircleJoin]), circle: Some(circle), wants_blocked: false };
    let (keys, limits) = (format!("session:{{{user}}}:{session}"), "1 w 1 5 3600000");
    let described = |blocked: &str, wanted: u8| {
        format!(
            "{keys} membership:{{{user}}}:{circle} {blocked} rate_limit:circles:{{subject}}:join \
             | {hash} 1800000 300000 - entry {wanted} {limits}"
        )
    };
    assert_eq!(words(&admission.call()), described(&keys, 2));
    admission.wants_blocked = true;
    assert_eq!(words(&admission.call()), described(&format!("blocked:{{{user}}}"), 3));
    let admission = Admission { token, charge: charge(&[]), circle: None, wants_blocked: false };
    assert_eq!(words(&admission.call()), format!("{keys} {keys} {keys} | {hash} 1800000 300000 - entry 1 0"));

    let two = charge(&[Limit::Reads, Limit::CircleJoin]);
    let names = "rate_limit:reads:{subject} rate_limit:circles:{subject}:join";
    let described = "2 c 1 3000 60000 w 1 5 3600000";
    assert_eq!(words(&two.call()), format!("{names} | - entry {described}"));
    assert_eq!(words(&two.peek_at("17")), format!("{names} | 17 {described}"));
    assert_eq!(two.refundable(), ["rate_limit:circles:{subject}:join"]);
    assert_eq!(words(&limit::give_back(&two.keys, "entry")), format!("{names} | entry"));

    let list = Key::circle_messages(circle);
    let keys = format!("{of_circle}:messages {of_circle}:counts {of_circle}:counts:page");
    assert_eq!(words(&counts::call(&list, 20, true).unwrap()), format!("{keys} | 20 1"));
    assert_eq!(words(&counts::call(&list, 100, false).unwrap()), format!("{keys} | 100 0"));
    assert!(counts::call(&Key::me(user), 20, true).is_none());

    let kind = Kind::parse("hug").unwrap();
    let reaction = Reaction { user, circle, message, kind, reacted: true };
    let written = format!("vouch:{{{theirs}}} ledger:{{{theirs}}} writes:{{{theirs}}}");
    assert_eq!(
        words(&reaction.call()),
        format!(
            "{written} {of_circle}:message:{message}:reactions {of_circle}:counts {of_circle}:counts:page \
             | {user} {circle} {message} 2 1 10000"
        )
    );
    let admission =
        Admission { token, charge: charge(&[Limit::CircleJoin]), circle: Some(circle), wants_blocked: false };
    let membership = format!("membership:{{{user}}}:{circle}");
    assert_eq!(
        words(&admit_react::call(&admission, &reaction, 17)),
        format!(
            "session:{{{user}}}:{session} {membership} vouch:{{{theirs}}} {of_circle}:access ledger:{{{theirs}}} \
             writes:{{{theirs}}} {of_circle}:message:{message}:reactions {of_circle}:counts {of_circle}:counts:page \
             rate_limit:circles:{{subject}}:join \
             | {hash} 1800000 300000 - entry 17 {user} {circle} {message} 2 1 10000 {limits}"
        )
    );
    assert_eq!(words(&visit::call(user, circle)), format!("{written} | {user} {circle} 10000"));

    let wake =
        |partition: Partition, state: &str, topic: Uuid| format!("wake:{{{partition}}} s {state} {topic}");
    assert_eq!(
        words(&presence::typing(user, circle)),
        format!("{of_circle}:typing | {user} 30000 100 {}", wake(theirs, "typing", circle))
    );
    let due = format!("presence:{{{mine}}}:{user} present:{{{mine}}} | {user}");
    let told = wake(mine, "presence", user);
    assert_eq!(
        words(&presence::say(user, "phone", State::Busy, 300_000)),
        format!("{due} phone busy 300000 10 240000 3600000 86400000 {told}")
    );
    let draft = format!("message_draft:{{{mine}}}:{user}:{circle}");
    let sizes = format!("message_drafts:{{{mine}}}:{user}");
    let told = wake(mine, "drafts", user);
    assert_eq!(
        words(&message_drafts::save(user, circle, "Hi")),
        format!("{draft} {sizes} | {circle} Hi 8192 819200 3600000 {told}")
    );
    assert_eq!(words(&message_drafts::read(user, circle)), format!("{draft} |"));
    assert_eq!(words(&message_drafts::discard(user, circle)), format!("{draft} {sizes} | {circle} {told}"));

    assert_eq!(
        words(&mine::call(circle, 10, 2, "5-0".into(), user, &[message])),
        format!("{written} | 000000000000000a 2 5-0 {user} {message}")
    );

    let vouched = Vouched { epoch: 10, degraded: true };
    assert_eq!(
        words(&vouch::call(mine, vouched, 1_000, 3_000)),
        format!("epoch:{{{mine}}} vouch:{{{mine}}} | 000000000000000a d 1000 3000")
    );
}

#[test]
fn the_origins_calls_are_in_their_scripts_order() {
    let [user, circle, message, draft] = [1, 3, 4, 5].map(Uuid::from_u128);
    let (mine, theirs) = (Partition::of(user), Partition::of(circle));
    let beside = Companions::of("k");
    assert_eq!(words(&fence::raise("k", &beside, "t", 7000)), "k hidden:k fence:k lease:k | t 7000");
    assert_eq!(words(&fence::release("k", &beside, "t")), "k hidden:k fence:k lease:k | t");
    assert_eq!(words(&fence::unhide("k", &beside, "t")), "k hidden:k fence:k lease:k | t");
    assert_eq!(
        words(&lease::ask("k", &beside, "t", 5000, 10, 17)),
        "k fence:k lease:k floor:k | t 5000 000000000000000a 00000000000017"
    );
    let fill = lease::Fill { name: "k", beside: &beside, token: "t", value: b"v", kept_ms: 90 };
    assert_eq!(words(&fill.call()), "k fence:k lease:k floor:k | t v 90");
    assert_eq!(words(&lease::give_back("k", &beside, "t")), "k fence:k lease:k floor:k | t - 1");
    assert_eq!(
        words(&invalidate::call("k", &beside, 10, 60, invalidate::From::Replica)),
        "k hidden:k floor:k | 000000000000000a 60 r"
    );

    let fields = [("kind", "a".to_owned()), ("at", "b".to_owned())];
    let events = [append::Event { at: "8-1", fields: &fields }];
    let batch =
        append::Batch { partition: mine, from: None, to: "9-0", kept: 100, trimmed: None, events: &events };
    assert_eq!(
        words(&batch.call()),
        format!(
            "events:{{{mine}}} cursor:{{{mine}}} wake:{{{mine}}} | - 9-0 100 172800000 - 8-1 4 kind a at b"
        )
    );

    let due = format!("presence:{{{mine}}}:{user} present:{{{mine}}} | {user}");
    let told = format!("wake:{{{mine}}} s presence {user}");
    assert_eq!(words(&presence::claim(user)), format!("{due} 6000"));
    assert_eq!(words(&presence::told(user, None)), format!("{due} offline 240000 {told}"));
    assert_eq!(words(&presence::renew(user)), format!("{due} 86400000"));
    assert_eq!(words(&presence::read(user)), format!("presence:{{{mine}}}:{user} |"));
    let online = format!("circle:{{{theirs}}}:{circle}:online");
    assert_eq!(
        words(&presence::show(circle, &[(user, Some(State::Busy)), (message, None)])),
        format!("{online} | 600000 wake:{{{theirs}}} s live {circle} {user} 3 {message} 0")
    );
    assert_eq!(
        words(&presence::live(circle)),
        format!("{online} circle:{{{theirs}}}:{circle}:typing | 1000")
    );
    let recent = format!("recent:{{{mine}}}:{user}");
    let looked = Recent::Message { circle, message };
    let note = format!("{recent} | message {message} {circle} 86400000 100");
    assert_eq!(words(&recent::note(user, looked)), note);
    assert_eq!(words(&recent::list(user)), format!("{recent} | 86400000 100"));
    assert_eq!(words(&message_drafts::list(user)), format!("message_drafts:{{{mine}}}:{user} |"));
    assert_eq!(words(&settle::call(1, 9, 2)), "settled:{p000} wake:{p000} | 1 9 2 172800000");

    let ledger = format!("ledger:{{{theirs}}} writes:{{{theirs}}}");
    assert_eq!(
        words(&ledger::open(theirs, 10, 2, "5-0")),
        format!("vouch:{{{theirs}}} {ledger} | 000000000000000a 2 5-0")
    );
    assert_eq!(words(&ledger::trim(theirs, 2, "5-0", "5-1")), format!("{ledger} | 2 5-0 5-1"));

    let of_circle = format!("circle:{{{theirs}}}:{circle}");
    let state = format!("{of_circle}:message:{message}:reactions");
    let mut snapshot = install::Known {
        circle,
        generation: 2,
        position: "5-0".to_owned(),
        seen_xmin: 11,
        counts: vec![(message, Counts::parse("1,2").unwrap())],
        whole: Some(message),
        members: vec![(Kind::parse("hug").unwrap(), user)],
    };
    let keys = format!("vouch:{{{theirs}}} {ledger} {of_circle}:counts {of_circle}:counts:page");
    let described = format!("1 {message} 1,2,0,0,0,0 1 2:{user}");
    assert_eq!(
        words(&snapshot.install(10, "t")),
        format!(
            "{keys} {state} fence:{state} lease:{state} floor:{state} \
             | 000000000000000a 2 5-0 86400000 {message} t 000000000000000b {described}"
        )
    );
    assert_eq!(
        words(&snapshot.audit(true)),
        format!("{keys} {state} fence:{state} | 2 5-0 1 {message} {described}")
    );
    snapshot.whole = None;
    snapshot.members.clear();
    let described = format!("1 {message} 1,2,0,0,0,0 0");
    assert_eq!(
        words(&snapshot.install(10, "")),
        format!("{keys} | 000000000000000a 2 5-0 86400000 - - 000000000000000b {described}")
    );
    assert_eq!(words(&snapshot.audit(false)), format!("{keys} | 2 5-0 0 - {described}"));
    assert_eq!(
        words(&snapshot.fill(fill, 10)),
        format!("k fence:k lease:k floor:k {keys} | t v 90 000000000000000a 2 5-0 86400000 {described}")
    );

    let name = format!("draft:{{{mine}}}:{user}:{draft}");
    let (dirty, member) = (format!("drafts:{{{mine}}}"), format!("{user}:{draft}"));
    let sizes = format!("draft_sizes:{{{mine}}}:{user}");
    let keys = format!("vouch:{{{mine}}} {name} {dirty} {sizes}");
    let draft_id = draft;
    let draft = drafts::Draft { user, draft };
    let sibling_of = Some(message);
    let version = drafts::Version { version: "v2".into(), sealed: "s".into(), saved_at_ms: 17, sibling_of };
    assert_eq!(
        words(&draft.save(Some("v1"), &version, Some(9))),
        format!("{keys} | v1 v2 s 17 {message} {member} {draft_id} 4096 9")
    );
    let version = drafts::Version { sibling_of: None, ..version };
    assert_eq!(
        words(&draft.save(None, &version, None)),
        format!("{keys} | - v2 s 17 - {member} {draft_id} 4096 -")
    );
    assert_eq!(
        words(&drafts::count(user, 10, &[(draft_id, 5), (message, 6)])),
        format!("vouch:{{{mine}}} {sizes} | 000000000000000a 3600000 11 {draft_id} 5 {message} 6")
    );
    let row = drafts::Row::There { version: &version, overtook: "v0" };
    assert_eq!(
        words(&draft.restore(10, &row, "v9")),
        format!("{keys} | 000000000000000a row v2 s 17 - v0 {member} 3600000 v9 {draft_id}")
    );
    assert_eq!(
        words(&draft.restore(10, &drafts::Row::Gone { version: "v3" }, "")),
        format!("{keys} | 000000000000000a gone v3 - - - - {member} 3600000 - {draft_id}")
    );
    assert_eq!(
        words(&draft.restore(10, &drafts::Row::None, "")),
        format!("{keys} | 000000000000000a none - - - - - {member} 3600000 - {draft_id}")
    );
    assert_eq!(words(&draft.flushed("v2")), format!("{name} {dirty} | v2 {member} 3600000"));
    assert_eq!(words(&draft.drop_flushed("v2")), format!("{name} | v2"));
}
