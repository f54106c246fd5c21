//! Large circles beside a small one: one of 50,000 members, and one with a million messages of two years. Each request goes to the three in
//! turn, one at a time, so that only the circle differs.
//!
//! A read that Redis answers costs the same in all of them, so the copies are dropped before each request. Members take turns, since each has limits.

use std::sync::Arc;
use std::time::Instant;

use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_tests::{Answer, Client, Kind};
use reqwest::Method;
use serde_json::json;

use crate::Settings;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

/// Members of each circle who ask.
const ASKING: usize = 60;
const MEMBERS: u64 = 50_000;
const QUICK_MEMBERS: u64 = 2_000;
const QUICK_MESSAGES: u64 = 20_000;
/// Requests of each kind to each circle in a turn.
const REQUESTS: usize = 20;
/// How much longer a large circle's request may take than a small one's.
const BOUND: f64 = 1.5;

#[derive(Clone, Copy, Debug)]
enum Deed {
    Messages,
    Older,
    Members,
    Circle,
    Activity,
    Statistics,
    Growth,
    Search,
    Post,
    Comment,
    React,
    Mark,
    Join,
    Leave,
}

const DEEDS: [Deed; 14] = [
    Deed::Messages,
    Deed::Older,
    Deed::Members,
    Deed::Circle,
    Deed::Activity,
    Deed::Statistics,
    Deed::Growth,
    Deed::Search,
    Deed::Post,
    Deed::Comment,
    Deed::React,
    Deed::Mark,
    Deed::Join,
    Deed::Leave,
];

impl Deed {
    fn what(self) -> &'static str {
        match self {
            Deed::Messages => "reading its newest messages",
            Deed::Older => "reading an older page of messages",
            Deed::Members => "reading its members",
            Deed::Circle => "reading it",
            Deed::Activity => "reading who is active",
            Deed::Statistics => "reading its statistics",
            Deed::Growth => "reading how it grew",
            Deed::Search => "searching in it",
            Deed::Post => "posting",
            Deed::Comment => "commenting",
            Deed::React => "reacting",
            Deed::Mark => "marking it as read",
            Deed::Join => "joining",
            Deed::Leave => "leaving",
        }
    }
}

struct Circle {
    id: Uuid,
    members: Vec<Client>,
    guests: Vec<Client>,
    /// Its newest message before the measurement.
    message: String,
    /// The cursor of a page that is older.
    older: String,
}

impl Circle {
    fn path(&self, rest: &str) -> String {
        format!("/v1/circles/{}{rest}", self.id)
    }

    /// Sends one request; returns its milliseconds.
    async fn act(&self, deed: Deed, number: usize) -> f64 {
        let member = &self.members[number % self.members.len()];
        let guest = &self.guests[number % self.guests.len()];
        let message = self.path(&format!("/messages/{}", self.message));
        let send =
            async |who: &Client, method: Method, path: &str, body: Option<serde_json::Value>| -> Answer {
                who.send(method, path, &[], body.map(|body| body.to_string().into_bytes())).await
            };
        let began = Instant::now();
        let answer = match deed {
            Deed::Messages => member.get(&self.path("/messages")).await,
            Deed::Older => member.get(&self.path(&format!("/messages?before={}", self.older))).await,
            Deed::Members => member.get(&self.path("/members")).await,
            Deed::Circle => member.get(&self.path("")).await,
            Deed::Activity => member.get(&self.path("/activity")).await,
            Deed::Statistics => member.get(&self.path("/stats")).await,
            // The first is the owner, who alone may read it of these.
            Deed::Growth => self.members[0].get(&self.path("/growth")).await,
            Deed::Search => member.get(&format!("/v1/search?q=morning%20in:{}", self.id)).await,
            Deed::Post => member.post(&self.path("/messages"), json!({"body": "Good morning."})).await,
            Deed::Comment => {
                member.post(&format!("{message}/comments"), json!({"body": "Good morning."})).await
            }
            Deed::React => send(member, Method::PUT, &format!("{message}/reactions/heart"), None).await,
            Deed::Mark => {
                send(member, Method::PUT, &self.path("/read"), Some(json!({"number": number + 1}))).await
            }
            Deed::Join => send(guest, Method::POST, &self.path("/members/me"), Some(json!({}))).await,
            Deed::Leave => send(guest, Method::DELETE, &self.path("/members/me"), None).await,
        };
        let taken = began.elapsed().as_secs_f64() * 1e3;
        assert!(answer.status < 300, "{deed:?}: {answer:#?}");
        taken
    }
}

/// Members whom nobody sees; triggers are off, so no count follows.
fn crowd(circle: Uuid, members: u64) -> String {
    format!(
        "set session_replication_role = replica;
         insert into users (id, email, password_hash, name, home_region)
         select md5('crowd' || n)::uuid, 'crowd' || n || '@example.org', 'none', 'Ada', 'bench' from generate_series(1, {members}) n;
         insert into memberships (circle_id, user_id, role, joined_at)
         select '{circle}', md5('crowd' || n)::uuid, 'member', now() - interval '1 minute' * n from generate_series(1, {members}) n;
         insert into read_markers (circle_id, user_id, number)
         select '{circle}', md5('crowd' || n)::uuid, 1 from generate_series(1, {members}) n;
         insert into activity (circle_id, user_id, day, posts, reactions, last_seen_at)
         select '{circle}', md5('crowd' || n)::uuid, now()::date - (n % 30)::int, 1, 3, now() from generate_series(1, {members}) n;
         update circles set member_count = member_count + {members} where id = '{circle}'"
    )
}

/// Messages from number `from` to `to` of `all`, of the past 24 months, the newest of yesterday.
fn messages(circle: Uuid, author: Uuid, from: u64, to: u64, all: u64) -> String {
    format!(
        "set session_replication_role = replica;
         insert into messages (id, circle_id, number, author_id, body, created_at)
         select (left(id_least(at)::text, 13) || '-7abc-8' || substr(md5(n::text), 1, 3) || '-' || substr(md5(n::text), 4, 12))::uuid,
             '{circle}', n, '{author}', 'Good morning, number ' || n || ', and word ' || n % 1000, at
         from (
             select n, now() - interval '1 day' - interval '700 days' * (1 - n::float8 / {all}) as at from generate_series({from}, {to}) n) each"
    )
}

/// Tells circles of the messages that were inserted by hand.
const TOLD: &str = "
update circles c set months = each.months, month_numbers = each.numbers, last_id = each.newest, last_number = each.last
from (
    select circle_id, array_agg(month order by month) as months, array_agg(number order by month) as numbers,
        (array_agg(newest order by month desc))[1] as newest, max(last) as last
    from (
        select circle_id, id_month(id) as month, min(number) as number, max(id::text)::uuid as newest, max(number) as last
        from messages group by 1, 2) month
    group by 1) each
where each.circle_id = c.id";

/// A public circle with the messages of [`messages`].
async fn circle(region: &Region, edge_url: &str, guests: usize, count: u64) -> Circle {
    let people = region.people(ASKING + guests);
    let (members, guests) = people.split_at(ASKING);
    let id: Uuid = region.circle_of(members).parse().expect("an id");
    region.sql(&format!(
        "update circles set visibility = 'public', join_policy = 'open' where id = '{id}'; delete from messages where circle_id = '{id}'"
    ));
    for from in (1..=count).step_by(100_000) {
        region.sql(&messages(id, members[0].user, from, (from + 99_999).min(count), count));
    }
    region.sql(TOLD);
    let clients = |people: &[crate::region::Member]| people.iter().map(|who| who.client(edge_url)).collect();
    let mut circle = Circle {
        id,
        members: clients(members),
        guests: clients(guests),
        message: String::new(),
        older: String::new(),
    };
    let newest = circle.members[0].get(&circle.path("/messages")).await.expect(200);
    circle.message = newest.text("/items/0/id");
    circle.older = newest.text("/next");
    circle
}

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Embedded);
    let (members, many) =
        if settings.quick { (QUICK_MEMBERS, QUICK_MESSAGES) } else { (MEMBERS, settings.messages) };
    let began = Instant::now();
    region.sql("select make_leaf('messages', leaf_now('messages') - n) from generate_series(1, 25) n");
    // Each joins and leaves once.
    let guests = REQUESTS * (settings.turns + 1);
    let small = circle(&region, &edge.url, guests, 100).await;
    let crowded = circle(&region, &edge.url, guests, 100).await;
    region.sql(&crowd(crowded.id, members));
    let long = circle(&region, &edge.url, guests, many).await;
    region.sql("vacuum analyze");
    println!("  {members} members and {many} messages in {} s", began.elapsed().as_secs());

    let mut redis = region.redis.connect().await;
    let mut figures = Vec::new();
    for deed in DEEDS {
        let mut taken = [const { Vec::new() }; 3];
        // The first turn brings pages into memory.
        for turn in 0..=settings.turns {
            let mut of_turn = [const { Vec::new() }; 3];
            for request in 0..REQUESTS {
                for (circle, of_turn) in [&small, &crowded, &long].into_iter().zip(&mut of_turn) {
                    let copies = [
                        Key::circle(circle.id),
                        Key::circle_messages(circle.id),
                        Key::circle_members(circle.id),
                        Key::circle_activity(circle.id),
                        Key::circle_stats(circle.id),
                    ];
                    let copies = copies.map(|key| key.name());
                    let _: () =
                        redis::cmd("DEL").arg(&copies).query_async(&mut redis).await.expect("redis answers");
                    of_turn.push(circle.act(deed, turn * REQUESTS + request).await);
                }
            }
            if turn > 0 {
                for (taken, mut of_turn) in taken.iter_mut().zip(of_turn) {
                    of_turn.sort_by(f64::total_cmp);
                    taken.push(of_turn[of_turn.len() / 2]);
                }
            }
        }
        let [of_small, of_crowded, of_long] = taken;
        for (name, samples) in [("of many members", of_crowded), ("of many messages", of_long)] {
            figures.push(Figure::times(
                &format!("{}, in a circle {name}", deed.what()),
                Side::new(name, "ms", samples),
                Side::new("in a small circle", "ms", of_small.clone()),
                Target::AtMost(BOUND),
            ));
        }
    }
    Outcome { figures, plots: Vec::new() }
}
