//! Names in lists: after a person's name has changed, or a circle has changed or is not everyone's to know any more, the copies
//! that show what was before are dropped within a minute.
//!
//! A write fences the copies that it changes. A name stands in too many for that, so a follower notes the change, and a job drops
//! the copies in steps, through the outbox, whose rows every region's relay reads. However often a name changes, the job goes
//! through its copies once in an interval. What was written in circles that the person has left, and messages further back than
//! a circle's newest hundred, may show the old name until their copies lapse. This is the highest domain whose copies show names.

use std::time::Duration;

use chrono::{DateTime, Utc};
use optimist_plane::ctx::Ctx;
use optimist_plane::domain::{Follow, Job};
use optimist_plane::error::Result;
use optimist_plane::outbox::event::Event;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;

const NOTED: Follow = Follow::Whole(|tx, events| Box::pin(note(tx, events)));

pub const FOLLOWS: &[(&str, Follow)] = &[
    ("user.updated", NOTED),
    ("account.erased", NOTED),
    ("circle.updated", NOTED),
    ("circle.archived", NOTED),
    ("circle.restored", NOTED),
];

pub const JOB: Job = Job {
    name: "names.drop",
    what: "drops copies that show a name of before",
    // With what a job waits to be looked for, well within the minute.
    every: Duration::from_secs(20),
    run: |ctx| Box::pin(drop_all(ctx)),
};

/// Circles of a step: with three lists, a head and up to two copies for each of [`MESSAGES`], at most 1,100 keys.
const CIRCLES: i64 = 25;
/// A person's messages in a circle whose own copies are dropped, of the newest hundred: those that the list shows.
const MESSAGES: i64 = 20;
/// Steps of one run. The next goes on.
const STEPS: u64 = 1_000;

statements! {
    /// One that the job has begun with is begun again after it has come to its end.
    const NOTE: &str = "-- names::note
insert into changed_names as known (kind, id)
select distinct kind, id from unnest($1::text[], $2::uuid[]) as changed (kind, id) order by kind, id
on conflict (kind, id) do update set again = true where known.after <> '00000000-0000-0000-0000-000000000000'";

    const TAKE: &str = "-- names::take
select kind, id, after from changed_names where changed_at < $1 order by changed_at limit 1 for update skip locked";

    /// The person's next circles, with their newest messages there, and the threads that these belong to.
    const SHOWN: &str = "-- names::shown (2,500 rows)
select held.circle_id, array_agg(own.id) filter (where own.id is not null), array_agg(own.parent_id) filter (where own.parent_id is not null)
from (
    select circle_id from memberships
    where user_id = $1 and role <> 'banned' and circle_id > $2 order by circle_id limit $3) held
join circles c on c.id = held.circle_id
left join lateral (
    select m.id, m.parent_id from messages m
    where m.circle_id = held.circle_id and m.number > c.last_number - 100 and m.author_id = $1 and deleted_at is null
    order by m.number desc limit $4) own on true
group by held.circle_id order by held.circle_id";

    /// An event without subscribers: it only tells relays which copies to drop.
    const DROP: &str = "-- names::drop
insert into outbox (region, request_id, keys, kind, payload, topics) values ($1, 'names.drop', $2, 'names.changed', 'null', '{}')";

    const ADVANCE: &str = "-- names::advance
update changed_names set after = $3 where kind = $1 and id = $2";

    const END: &str = "-- names::end
with begun as (
    update changed_names set again = false, after = '00000000-0000-0000-0000-000000000000', changed_at = clock_timestamp()
    where kind = $1 and id = $2 and again)
delete from changed_names where kind = $1 and id = $2 and not again";
}

/// Notes whose names have changed.
async fn note(tx: &Tx, events: &[Event]) -> Result<()> {
    let changed = |event: &Event| match event.kind.as_str() {
        "user.updated" if event.is("renamed") => event.id("user").map(|user| ("person", user)),
        "user.updated" => None,
        "account.erased" => event.id("user").map(|user| ("person", user)),
        _ => Some(("circle", Uuid::nil())),
    };
    let (kinds, ids): (Vec<&str>, Vec<Uuid>) = events.iter().filter_map(changed).unzip();
    if kinds.is_empty() {
        return Ok(());
    }
    tx.execute(NOTE, &[&kinds, &ids]).await.map(drop)
}

/// Drops the copies of all that was noted so far. Returns the number of steps.
async fn drop_all(ctx: &Ctx) -> Result<u64> {
    let begun = Utc::now();
    for done in 0..STEPS {
        let tx = Tx::begin(&ctx.db).await?;
        let result = step(ctx, &tx, begun).await;
        if !tx.end(result).await? {
            return Ok(done);
        }
        ctx.relay_wake.notify_one();
    }
    Ok(STEPS)
}

/// Drops some copies. Returns whether there were any to drop.
async fn step(ctx: &Ctx, tx: &Tx, begun: DateTime<Utc>) -> Result<bool> {
    let Some(row) = tx.query_opt(TAKE, &[&begun]).await? else { return Ok(false) };
    let (kind, id, after): (String, Uuid, Uuid) = (row.get(0), row.get(1), row.get(2));
    let (mut keys, mut last) = (Vec::new(), None);
    if kind == "circle" {
        keys.push(Key::discovery().name());
    } else {
        let rows = tx.query(SHOWN, &[&id, &after, &CIRCLES, &MESSAGES]).await?;
        for row in &rows {
            let circle: Uuid = row.get(0);
            let [messages, threads] =
                [1, 2].map(|at| row.get::<_, Option<Vec<Uuid>>>(at).unwrap_or_default());
            keys.push(Key::circle_members(circle).name());
            keys.push(Key::circle_messages(circle).name());
            keys.push(Key::circle_head(circle).name());
            keys.push(Key::circle_activity(circle).name());
            keys.extend(messages.into_iter().map(|message| Key::message(circle, message).name()));
            keys.extend(threads.into_iter().map(|parent| Key::comments(circle, parent).name()));
        }
        last = rows.last().filter(|_| rows.len() as i64 == CIRCLES).map(|row| row.get::<_, Uuid>(0));
    }
    if !keys.is_empty() {
        tx.execute(DROP, &[&ctx.config.region, &keys]).await?;
    }
    match last {
        Some(last) => tx.execute(ADVANCE, &[&kind, &id, &last]).await?,
        None => tx.execute(END, &[&kind, &id]).await?,
    };
    Ok(true)
}
