//! Brings people's presence to their circles: in batches, and only who is due.
//!
//! A device's request writes in its person's partition alone, however many circles the person is in. Whoever looks different to
//! others is due there at once; who stays the same, every four minutes; and whoever's lease ends, at that moment. Each
//! origin looks for them every two seconds and claims those whom nobody else has claimed. If it dies over one, the claim lapses, and
//! the next origin does it again: it reads the state anew, so doing it twice changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use ::redis::Cmd;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::{Items, RedisDown};
use optimist_plane::statements;
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;
use optimist_shared::presence::State;
use optimist_shared::scripts::{Call, Scalars as _, presence as scripts};

/// Together with a lapsed claim less than the fifteen seconds within which a vanished device must be gone.
const EVERY: Duration = Duration::from_secs(2);
/// People of a partition, and of all partitions, in one pass. Each is in at most 500 circles.
const OF_A_PARTITION: usize = 20;
const AT_ONCE: usize = 40;
/// People whom one call shows in a circle.
const SHOWN_AT_ONCE: usize = 200;
/// Calls in one trip.
const CALLS: usize = 1_000;

statements! {
    /// Of forty people, each in at most 500 circles.
    const CIRCLES: &str = "-- presence::circles (20,040 rows)
select member.user_id, member.circle_id, person.presence_to = 'circles' and person.status = 'active'
from users person join memberships member on member.user_id = person.id
where person.id = any($1) and member.role <> 'banned'";
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Without Redis nobody is present, and without Postgres people stay as they are; the breakers have logged why. Whoever was
        // claimed is due again.
        let _ = show_due(&ctx).await;
    }
}

/// Shows all who are due.
pub async fn show_due(ctx: &Ctx) -> Result<()> {
    loop {
        let Ok(due) = due(ctx).await else { return Ok(()) };
        for people in due.chunks(AT_ONCE) {
            show(ctx, people).await?;
        }
        // Fewer than one partition's share: nobody was left out.
        if due.len() < OF_A_PARTITION {
            return Ok(());
        }
    }
}

/// Some of those who are due, by Redis's clock.
async fn due(ctx: &Ctx) -> std::result::Result<Vec<Uuid>, RedisDown> {
    let mut time = Items::new(ctx.redis.send([::redis::cmd("TIME")]).await?.remove(0));
    let now_ms = time.count() * 1_000 + time.count() / 1_000;
    let commands: Vec<Cmd> = Partition::all()
        .map(|partition| {
            let mut command = ::redis::cmd("ZRANGEBYSCORE");
            command.arg(Key::PresenceDue.of_partition(partition)).arg("-inf").arg(now_ms);
            command.arg("LIMIT").arg(0).arg(OF_A_PARTITION);
            command
        })
        .collect();
    let mut people = Vec::new();
    for value in ctx.redis.send(commands).await? {
        let mut names = Items::new(value);
        people.extend(
            std::iter::from_fn(|| Some(names.text()).filter(|name| !name.is_empty()))
                .filter_map(|name| parse_id(&name)),
        );
    }
    Ok(people)
}

/// Claims these people, shows them in their circles unless nobody is to see them, and notes that.
async fn show(ctx: &Ctx, people: &[Uuid]) -> Result<()> {
    let claims: Vec<Call> = people.iter().map(|user| scripts::claim(*user)).collect();
    let Ok(claimed) = ctx.redis.call(&claims).await else { return Ok(()) };
    let shown: HashMap<Uuid, Option<State>> = people
        .iter()
        .zip(claimed)
        .filter_map(|(user, mut reply)| Some((*user, scripts::claimed(&mut reply)?)))
        .collect();
    if shown.is_empty() {
        return Ok(());
    }
    let users: Vec<Uuid> = shown.keys().copied().collect();
    let mut circles: HashMap<Uuid, Vec<(Uuid, Option<State>)>> = HashMap::new();
    for row in ctx.db.query(CIRCLES, &[&users]).await? {
        let (user, circle, is_seen): (Uuid, Uuid, bool) = (row.get(0), row.get(1), row.get(2));
        circles.entry(circle).or_default().push((user, shown[&user].filter(|_| is_seen)));
    }
    let calls: Vec<Call> = circles
        .iter()
        .flat_map(|(circle, people)| {
            people.chunks(SHOWN_AT_ONCE).map(|people| scripts::show(*circle, people))
        })
        .collect();
    for calls in calls.chunks(CALLS) {
        if ctx.redis.call(calls).await.is_err() {
            return Ok(());
        }
    }
    let told: Vec<Call> = shown.iter().map(|(user, state)| scripts::told(*user, *state)).collect();
    // If it is not noted, they are due again once the claim has lapsed.
    let _ = ctx.redis.call(&told).await;
    Ok(())
}
