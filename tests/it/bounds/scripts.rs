//! Scripts on a full Redis: each is called as its callers call it at most. A user of Redis that may touch only the keys that
//! the call names runs it, so a script that touches another fails.

mod redis_only;

use std::collections::BTreeMap;

use optimist_shared::blocks::BLOCKED;
use optimist_shared::envelope::{Body, Envelope, Item, LIST_BYTES, LIST_LIMIT, Stamp};
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::{BoundKey, Companions, Key};
use optimist_shared::limits::{LIMITS, Limit, LimitRow, Scope};
use optimist_shared::quotas::Quota;
use optimist_shared::reactions::{Counts, KINDS, Kind};
use optimist_shared::routes::{ROUTES, Route};
use optimist_shared::scripts::admit::Admission;
use optimist_shared::scripts::admit_react;
use optimist_shared::scripts::drafts::{self, Draft, Row, Version};
use optimist_shared::scripts::install::Known;
use optimist_shared::scripts::lease::Fill;
use optimist_shared::scripts::limit::{Charge, give_back};
use optimist_shared::scripts::react::Reaction;
use optimist_shared::scripts::{
    ALL, Call, append, counts, fence, invalidate, lease, ledger, mark_read, mine, settle, visit, vouch,
};
use optimist_shared::session::{CachedSession, Token, attempt_entry, hash_secret};
use optimist_shared::vouching::Vouched;
use optimist_tests::stores::Redis;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

/// The epoch that is vouched for.
const EPOCH: u64 = 7;
/// Reactions to one message: nothing caps them.
const REACTIONS: u128 = 12_000;
/// Entries that wait in a stream: as many as it takes, but for four.
const WAITING: usize = 9_996;
/// Events that a relay appends at once.
const EVENTS: u64 = 1_000;
/// A sealed draft: 50,000 characters of text, 200 of title and 20 tags of 40, each of six bytes as JSON.
const SEALED: usize = 6 * (50_000 + 200 + 20 * 40) + 1_024;
/// The token of a lease or fence.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The most that a script has touched.
#[derive(Clone, Copy, Default)]
struct Touched {
    keys: usize,
    bytes: usize,
}

struct Bench {
    _server: Redis,
    admin: MultiplexedConnection,
    /// May touch only the keys of the current call.
    narrow: MultiplexedConnection,
    touched: BTreeMap<&'static str, Touched>,
}

impl Bench {
    async fn start() -> Bench {
        let server = Redis::start("everysec");
        let (mut admin, mut narrow) = (server.connect().await, server.connect().await);
        let mut user = redis::cmd("ACL");
        user.arg("SETUSER").arg("narrow").arg("on").arg("nopass").arg("+@all").arg("allchannels");
        let _: () = user.query_async(&mut admin).await.unwrap();
        let _: () = redis::cmd("AUTH").arg("narrow").arg("").query_async(&mut narrow).await.unwrap();
        Bench { _server: server, admin, narrow, touched: BTreeMap::new() }
    }

    /// Runs a call; returns the texts of its reply.
    async fn run(&mut self, call: &Call<'_>) -> Vec<String> {
        let mut user = redis::cmd("ACL");
        user.arg("SETUSER").arg("narrow").arg("resetkeys").arg("allchannels");
        for key in &call.keys {
            user.arg(format!("~{key}"));
        }
        let _: () = user.query_async(&mut self.admin).await.unwrap();
        let mut command = Cmd::new();
        call.words(true, |word| {
            command.arg(word);
        });
        let reply: Value = command
            .query_async(&mut self.narrow)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", call.script.name));
        let mut words = Vec::new();
        flatten(reply, &mut words);
        let bytes = call.keys.iter().map(|key| key.len()).sum::<usize>()
            + call.arguments.iter().map(|argument| argument.len()).sum::<usize>()
            + words.iter().map(Vec::len).sum::<usize>();
        let most = self.touched.entry(call.script.name).or_default();
        most.keys = most.keys.max(call.keys.len());
        most.bytes = most.bytes.max(bytes);
        words.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect()
    }

    /// Runs a call, whose reply must begin with this word.
    async fn expect(&mut self, word: &str, call: &Call<'_>) {
        let reply = self.run(call).await;
        assert_eq!(reply[0], word, "{}", call.script.name);
    }

    async fn set(&mut self, key: BoundKey, value: &[u8]) {
        let mut set = redis::cmd("SET");
        set.arg(key.name()).arg(value).arg("EX").arg(600);
        let _: () = set.query_async(&mut self.admin).await.unwrap();
    }

    async fn vouch(&mut self, partition: Partition) {
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut self.admin).await.unwrap();
        let vouched = Vouched { epoch: EPOCH, degraded: false };
        self.expect("1", &vouch::call(partition, vouched, seconds * 1_000, 600_000)).await;
    }
}

/// The scalars of a reply.
fn flatten(reply: Value, into: &mut Vec<Vec<u8>>) {
    match reply {
        Value::Array(items) => items.into_iter().for_each(|item| flatten(item, into)),
        Value::BulkString(bytes) => into.push(bytes),
        Value::SimpleString(text) => into.push(text.into()),
        Value::Int(number) => into.push(number.to_string().into()),
        Value::Nil => into.push(Vec::new()),
        Value::Okay => into.push(b"OK".to_vec()),
        other => panic!("a reply of another kind: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_touch_no_more_keys_and_bytes_than_they_state() {
    let mut bench = Bench::start().await;
    limits(&mut bench).await;
    copies(&mut bench).await;
    reactions(&mut bench).await;
    events(&mut bench).await;
    drafts_of_a_person(&mut bench).await;
    redis_only::presences(&mut bench).await;
    redis_only::composed_messages(&mut bench).await;
    redis_only::looked_at(&mut bench).await;
    redis_only::asked(&mut bench).await;
    let mut faults = Vec::new();
    for script in ALL {
        let bound = script.bound().unwrap();
        let name = script.name;
        let Some(Touched { keys, bytes }) = bench.touched.get(name).copied() else {
            faults.push(format!("{name} is not called"));
            continue;
        };
        if keys > bound.keys || bytes > bound.bytes {
            let stated = format!("not {} and {}", bound.keys, bound.bytes);
            faults.push(format!("{name}: {keys} keys and {bytes} bytes, {stated}"));
        }
        // A number that nothing caps is the data's, and says nothing if the data has far less.
        if bound.uncapped.is_some() && bytes < bound.bytes / 2 {
            faults.push(format!("{name}: only {bytes} bytes, of {}", bound.bytes));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn stamp() -> Stamp {
    Stamp { epoch: EPOCH, fresh_until_ms: 99_999_999_999_999, read_at_ms: 1, seen_xmin: 9 }
}

/// Admission, and limits without a session.
async fn limits(bench: &mut Bench) {
    let [user, session, circle] = [1, 2, 3].map(Uuid::from_u128);
    let of_user = |row: &&LimitRow| row.scope == Scope::User;
    let rows_of =
        |route: &Route| -> Vec<_> { route.limits.iter().map(|limit| limit.row()).filter(of_user).collect() };
    let windows = |rows: &[&LimitRow]| rows.iter().map(|row| row.windows.len()).sum::<usize>();
    let rows = ROUTES.iter().map(rows_of).max_by_key(|rows| windows(rows)).unwrap();
    let token = Token { user, session, secret: [7; 32] };
    let cached = CachedSession {
        secret_hash: hash_secret(&[7; 32]),
        written_back_ms: 1,
        absolute_until_ms: 99_999_999_999_999,
    };
    let envelope = Envelope { stamp: stamp(), body: Body::Session(&cached.encode()) }.encode();
    bench.set(Key::session(user, session), &envelope).await;
    let role = Envelope { stamp: stamp(), body: Body::Text("moderator") }.encode();
    bench.set(Key::membership(user, circle), &role).await;
    let blocked: String = (0..BLOCKED as u128).map(|id| Uuid::from_u128(id).to_string()).collect();
    let blocked = Envelope { stamp: stamp(), body: Body::Text(&blocked) }.encode();
    bench.set(Key::blocked(user), &blocked).await;
    let entry = |attempt: usize| attempt_entry(user, "messages.post", &attempt.to_string());
    let most = rows.iter().flat_map(|row| row.windows).map(|window| window.admitted).min().unwrap();
    for attempt in 0..=most as usize {
        let charge = Charge::new(rows.clone(), &user.to_string(), entry(attempt));
        let admission = Admission { token, charge, circle: Some(circle), wants_blocked: true };
        let outcome = if attempt < most as usize { "ok" } else { "refused" };
        bench.expect(outcome, &admission.call()).await;
        let refundable = admission.charge.refundable();
        if attempt == 0 && !refundable.is_empty() {
            bench.run(&give_back(&refundable, &admission.charge.entry)).await;
            bench.expect("ok", &admission.call()).await;
        }
    }
    let all: Vec<_> = LIMITS.iter().filter(of_user).collect();
    bench.run(&Charge::new(all, &user.to_string(), String::new()).peek()).await;

    // An address, with its networks; and what a body names: an account, with the longest address or a device.
    let part = "ffff:ffff:ffff:ffff::/64";
    for row in LIMITS.iter().filter(|row| row.scope == Scope::Address) {
        bench.expect("charged", &Charge::new(vec![row], part, entry(0)).call()).await;
    }
    let account = hash_secret(&[1; 32]);
    for limits in [&[Limit::LoginAccount, Limit::LoginTotal][..], &[Limit::Sessions, Limit::RefreshFamily]] {
        let rows: Vec<_> = limits.iter().map(|limit| limit.row()).collect();
        let mut charge = Charge::new(rows, &account, entry(0));
        charge.keys.iter_mut().for_each(|key| *key = format!("{key}:{part}"));
        bench.expect("charged", &charge.call()).await;
    }
}

/// The largest list there is, with the ids of its items.
fn largest_list() -> (Vec<String>, Vec<u8>) {
    let json = vec![b'x'; LIST_BYTES / LIST_LIMIT];
    let ids: Vec<String> = (0..LIST_LIMIT as u128).map(|id| Uuid::from_u128(id).to_string()).collect();
    let items = ids.iter().map(|id| Item { id, cursor: TOKEN, json: &json }).collect();
    let list = Envelope {
        stamp: stamp(),
        body: Body::List { version: TOKEN, items, more: true, archived_before: None },
    }
    .encode();
    (ids, list)
}

/// Copies: filled, read under a lease, fenced and invalidated; the largest list there is.
async fn copies(bench: &mut Bench) {
    let circle = Uuid::from_u128(3);
    let key = Key::circle_messages(circle);
    let (name, beside) = (key.name(), Companions::of(&key.name()));
    let (ids, list) = largest_list();
    bench.expect("granted", &lease::ask(&name, &beside, TOKEN, 5_000, EPOCH, 1)).await;
    let fill = Fill { name: &name, beside: &beside, token: TOKEN, value: &list, kept_ms: 60_000 };
    bench.expect("1", &fill.call()).await;
    bench.expect("value", &lease::ask(&name, &beside, TOKEN, 5_000, EPOCH, 1)).await;

    let most = [u32::MAX; KINDS.len()].map(|count| count.to_string()).join(",");
    let mut count = redis::cmd("HSET");
    count.arg(Key::counts(circle).name());
    for id in &ids {
        count.arg(id).arg(format!("{EPOCH:016x}{most}"));
    }
    let _: () = count.query_async(&mut bench.admin).await.unwrap();
    bench.run(&counts::call(&key, LIST_LIMIT, true).unwrap()).await;

    bench.expect("1", &fence::raise(&name, &beside, TOKEN, 7_000)).await;
    bench.expect("1", &fence::unhide(&name, &beside, TOKEN)).await;
    bench.expect("1", &fence::raise(&name, &beside, TOKEN, 7_000)).await;
    bench.expect("1", &fence::release(&name, &beside, TOKEN)).await;
    bench.expect("granted", &lease::ask(&name, &beside, TOKEN, 5_000, EPOCH, 1)).await;
    bench.expect("1", &fill.call()).await;
    bench.expect("1", &invalidate::call(&name, &beside, 10, 60_000, invalidate::From::Replica)).await;
}

/// A page of messages' counts, and a message with as many reactions as the data has, beside a stream that is almost full.
async fn reactions(bench: &mut Bench) {
    let circle = Uuid::from_u128(4);
    let partition = Partition::of(circle);
    let message = Uuid::from_u128(100);
    bench.vouch(partition).await;
    bench.expect("open", &ledger::open(partition, EPOCH, 1, "5-0")).await;
    let mut pipeline = redis::pipe();
    for entry in 0..WAITING {
        let user = Uuid::from_u128(entry as u128);
        let value = format!("{user} {circle} {message} 1 1");
        pipeline
            .cmd("XADD")
            .arg(Key::Writes.of_partition(partition))
            .arg("*")
            .arg("reaction")
            .arg(value)
            .ignore();
    }
    let _: () = pipeline.query_async(&mut bench.admin).await.unwrap();
    let kind = |number: u128| Kind::from_place(1 + usize::try_from(number).unwrap() % KINDS.len()).unwrap();
    let known = Known {
        circle,
        generation: 1,
        position: "5-0".to_owned(),
        seen_xmin: 9,
        counts: (0..LIST_LIMIT as u128)
            .map(|id| (Uuid::from_u128(100 + id), Counts::parse("2000,2000,2000,2000,2000,2000").unwrap()))
            .collect(),
        whole: Some(message),
        members: (0..REACTIONS).map(|number| (kind(number), Uuid::from_u128(number))).collect(),
    };
    let state = Key::reactions(circle, message).name();
    let beside = Companions::of(&state);
    bench.expect("granted", &lease::ask(&state, &beside, TOKEN, 5_000, EPOCH, 1)).await;
    bench.expect("done", &known.install(EPOCH, TOKEN)).await;
    let (list, (_, value)) = (Key::circle_messages(circle).name(), largest_list());
    let beside = Companions::of(&list);
    bench.expect("granted", &lease::ask(&list, &beside, TOKEN, 5_000, EPOCH, 1)).await;
    let fill = Fill { name: &list, beside: &beside, token: TOKEN, value: &value, kept_ms: 60_000 };
    let of_list = Known { whole: None, members: Vec::new(), ..known.clone() };
    bench.expect("1", &of_list.fill(fill, EPOCH)).await;
    bench.expect("checked", &known.audit(true)).await;
    let user = Uuid::from_u128(u128::MAX);
    let reaction = Reaction { user, circle, message, kind: kind(0), reacted: true };
    bench.expect("done", &reaction.call()).await;
    admitted_reactions(bench, &reaction).await;
    let page: Vec<Uuid> = (0..LIST_LIMIT as u128).map(|id| Uuid::from_u128(100 + id)).collect();
    bench.expect("done", &mine::call(circle, EPOCH, 1, "5-0".to_owned(), user, &page)).await;
    bench.expect("unknown", &mark_read::call(user, circle, 1)).await;
    let json = vec![b'x'; 2_048];
    let head = Envelope { stamp: stamp(), body: Body::Object { version: "9007199254740991", json: &json } };
    bench.set(Key::circle_head(circle), &head.encode()).await;
    bench.expect("unknown", &mark_read::call(user, circle, 9_007_199_254_740_993)).await;
    for _ in 0..2 {
        bench.expect("done", &mark_read::call(user, circle, 9_007_199_254_740_990)).await;
    }
    bench.expect("done", &visit::call(user, circle)).await;
    bench.expect("full", &visit::call(user, circle)).await;
    bench.expect("full", &mark_read::call(user, circle, 9_007_199_254_740_991)).await;
    bench.expect("0", &ledger::trim(partition, 1, "9999999999999-0", "9999999999999-1")).await;
}

/// Reactions in the trip that admits them: one that the script makes, one that it leaves to the edge, with all that decides, and one
/// that a limit refuses.
async fn admitted_reactions(bench: &mut Bench, reaction: &Reaction) {
    let reaction = Reaction { kind: Kind::from_place(KINDS.len()).unwrap(), ..*reaction };
    let Reaction { user, circle, .. } = reaction;
    let session = Uuid::from_u128(2);
    let token = Token { user, session, secret: [7; 32] };
    let cached = CachedSession {
        secret_hash: hash_secret(&[7; 32]),
        written_back_ms: 1,
        absolute_until_ms: 99_999_999_999_999,
    };
    let envelope = Envelope { stamp: stamp(), body: Body::Session(&cached.encode()) }.encode();
    bench.set(Key::session(user, session), &envelope).await;
    let text = |text| Envelope { stamp: stamp(), body: Body::Text(text) }.encode();
    bench.set(Key::membership(user, circle), &text("moderator")).await;
    bench.set(Key::circle_access(circle), &text("archived")).await;
    let limits = ROUTES.iter().find(|route| route.name == "reactions.add").unwrap().limits;
    let rows: Vec<_> = limits.iter().map(|limit| limit.row()).collect();
    let most = rows[0].windows[0].admitted;
    for attempt in 0..=most {
        if attempt == 1 {
            bench.set(Key::circle_access(circle), &text("private")).await;
        }
        let entry = attempt_entry(user, "reactions.add", &attempt.to_string());
        let admission = Admission {
            token,
            charge: Charge::new(rows.clone(), &user.to_string(), entry),
            circle: Some(circle),
            wants_blocked: false,
        };
        let reply = bench.run(&admit_react::call(&admission, &reaction, 1)).await;
        let outcome = match attempt {
            0 => "doubted",
            1 => "done",
            _ => "same",
        };
        if attempt < most {
            assert_eq!((&reply[0][..], &reply[9][..]), ("ok", outcome), "{reply:?}");
        } else {
            assert_eq!(reply[0], "refused");
        }
    }
}

/// What a relay appends after an outage, if all of it concerns one partition.
async fn events(bench: &mut Bench) {
    let ids = Uuid::from_u128(u128::MAX);
    let positions: Vec<String> = (1..=EVENTS).map(|seq| format!("18446744073709-{seq}")).collect();
    let payload =
        format!(r#"{{"kind": "celebrate", "circle": "{ids}", "message": "{ids}", "reacted": false}}"#);
    let fields = [
        ("kind", "reaction.written-through".to_owned()),
        ("version", "1".to_owned()),
        ("topics", format!("{ids} {ids}")),
        ("actor", ids.to_string()),
        ("at", "99999999999999".to_owned()),
        ("payload", payload),
    ];
    let events: Vec<_> = positions.iter().map(|at| append::Event { at, fields: &fields }).collect();
    let to = positions.last().unwrap();
    let batch = append::Batch {
        partition: Partition::of(ids),
        from: None,
        to,
        kept: 20_000,
        trimmed: Some(to),
        events: &events,
    };
    bench.expect("ok", &batch.call()).await;
    for seq in 1..3 {
        bench.run(&settle::call(4_294_967_295, 18_446_744_073_709, seq)).await;
    }
}

/// The longest draft, and as many as the quota admits.
async fn drafts_of_a_person(bench: &mut Bench) {
    let user = Uuid::from_u128(1);
    bench.vouch(Partition::of(user)).await;
    let quota = Quota::Drafts.row();
    let sizes: Vec<_> =
        (0..quota.most_items()).map(|id| (Uuid::from_u128(id.into()), quota.least_each)).collect();
    bench.expect("1", &drafts::count(user, EPOCH, &sizes)).await;
    let draft = Draft { user, draft: Uuid::from_u128(5) };
    let version = |number: u8| Version {
        version: format!("{number:032x}"),
        sealed: vec![b'x'; SEALED],
        saved_at_ms: 99_999_999_999_999,
        sibling_of: Some(user),
    };
    let (first, second, third) = (version(1), version(2), version(3));
    // The person's drafts may not have more: it is only the largest call.
    bench.expect("full", &draft.save(None, &first, Some(quota.most))).await;
    bench.expect("saved", &draft.save(None, &second, None)).await;
    bench.expect("0", &draft.drop_flushed(&second.version)).await;
    let row = Row::There { version: &third, overtook: "" };
    bench.expect("fork", &draft.restore(EPOCH, &row, "")).await;
    bench.expect("restored", &draft.restore(EPOCH, &row, &second.version)).await;
    bench.expect("1", &draft.flushed(&third.version)).await;
    bench.expect("1", &draft.drop_flushed(&third.version)).await;
}
