//! The final state after all faults are mended: waits until the system rests, then gathers it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_tests::events::{expected, streams};
use optimist_tests::{Crowd, Origin, System};
use serde_json::Value;

use crate::adversary::beyond_caps;
use crate::history::Finals;
use crate::subscribers;
use crate::world::{MESSAGES, World};

/// How long the recovery may take.
const PATIENCE: Duration = Duration::from_secs(45);

/// Waits until the edge trusts Redis again, and nothing is pending: no write waits, and all projections are written.
pub async fn rest(system: &System, world: &World) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    until(deadline, "Redis is trusted again", async || {
        let on = system.sql("select state = 'on' from regions") == "t";
        on && world.registers.is_hit().await
    })
    .await?;
    let waiting = "select count(*) from outbox o, projections p
        where p.name = 'main' and (o.xid, o.seq) > (p.xid, p.seq)";
    until(deadline, "what follows from writes is done", async || system.sql(waiting) == "0").await?;
    world.crowd.wait_for_flush(system).await;
    let is_told = async || {
        let (told, lost) = (streams(system).await, whole_since(system).await);
        expected(system).iter().all(|place| told.contains_key(place) || lost.contains_key(&place.0))
    };
    // If not, the judges report what is missing.
    let _ = until(Instant::now() + Duration::from_secs(15), "events are told", is_told).await;
    Ok(())
}

async fn until(deadline: Instant, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<(), String> {
    while !is_so().await {
        if Instant::now() > deadline {
            return Err(format!("never came to rest: it is not so that {what}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

pub async fn gather(system: &System, world: &World) -> Finals {
    let circle = world.circle();
    let listed = system.sql(&format!(
        "select number || ' ' || body from messages where circle_id = '{circle}' and number > {MESSAGES} order by number"
    ));
    let message = |line: &str| {
        let (number, text) = line.split_once(' ').expect("a number and a text");
        (number.parse().expect("a number"), text.to_owned())
    };
    let members = system.sql(&format!(
        "select user_id from memberships where circle_id = '{}' and role = 'member'",
        world.club
    ));
    let mut sums = sums_in_postgres(system, circle);
    sums.extend(sums_as_seen(system, world).await);
    sums.extend(beyond_caps(system).await);
    let posted = subscribers::posted(system, world);
    let followed = world.record.followed.lock().expect("the record").clone();
    Finals {
        messages: listed.lines().map(message).collect(),
        messages_at_first: MESSAGES as u64,
        on: Crowd::stored(system),
        counts: world.crowd.counts(system).await,
        members: members.lines().map(str::to_owned).collect(),
        draft_texts: draft_texts(world).await,
        sums,
        streams: streams(system).await,
        outbox: expected(system),
        whole_since: whole_since(system).await,
        followed,
        subscribed: subscribers::finish(world, &posted).await,
        posted,
    }
}

/// Counts kept beside their rows, with the rows' own number.
fn sums_in_postgres(system: &System, circle: &str) -> Vec<(String, i64, i64)> {
    let rows = system.sql(&format!(
        "select 'members of ' || id, member_count,
             (select count(*) from memberships m where m.circle_id = c.id and role <> 'banned') from circles c
         union all select 'messages of ' || id, last_number,
             (select count(*) from messages m where m.circle_id = c.id) from circles c
         union all select 'unread of ' || user_id, unread,
             (select count(*) from notifications n where n.user_id = c.user_id and read_at is null and place > read_through)
         from notification_counts c
         union all select 'messages that ' || m.user_id || ' was told of',
             told + more, posted
         from memberships m
         cross join lateral (select count(*) from notifications n
             where n.user_id = m.user_id and n.circle_id = m.circle_id and kind = 'message') as one (told)
         cross join lateral (select coalesce(sum(actors), 0) from notifications n
             where n.user_id = m.user_id and kind = 'more') as rest (more)
         cross join lateral (select count(*) from messages o
             where o.circle_id = m.circle_id and o.author_id <> m.user_id and number > {MESSAGES} and deleted_at is null) as all_of_them (posted)
         where circle_id = '{circle}'
         union all select 'writes set aside', count(*), 0 from writes_set_aside"
    ));
    let sum = |line: &str| {
        let parts: Vec<&str> = line.split('|').collect();
        (parts[0].to_owned(), parts[1].parse().expect("a number"), parts[2].parse().expect("a number"))
    };
    rows.lines().map(sum).collect()
}

/// The same counts as clients see them.
async fn sums_as_seen(system: &System, world: &World) -> Vec<(String, i64, i64)> {
    let mut sums = Vec::new();
    let owner = &world.crowd.people()[0];
    for circle in [&world.club, world.circle()] {
        system.forget_limits_of(owner).await;
        let seen = owner.get(&format!("/v1/circles/{circle}")).await.expect(200);
        let is = system.sql(&format!("select member_count from circles where id = '{circle}'"));
        sums.push((
            format!("members of {circle} as seen"),
            seen.body["member_count"].as_i64().unwrap_or(-1),
            is.parse().expect("a number"),
        ));
    }
    for person in world.crowd.people() {
        system.forget_limits_of(person).await;
        let seen = person.get("/v1/notifications/unread-count").await.expect(200);
        let is = system.sql(&format!(
            "select count(*) from notifications join notification_counts using (user_id)
             where user_id = '{}' and read_at is null and place > read_through",
            person.user
        ));
        let unread = seen.body["unread"].as_i64().unwrap_or(-1);
        sums.push((format!("unread of {} as seen", person.user), unread, is.parse().expect("a number")));
    }
    sums
}

/// The texts of all drafts, read page by page.
async fn draft_texts(world: &World) -> Vec<String> {
    let (mut texts, mut query) = (Vec::new(), String::new());
    loop {
        world.unlimited.forget(&world.diarist).await;
        let page = world.diarist.get(&format!("/v1/journal/drafts?limit=100{query}")).await.expect(200);
        let items = page.body["items"].as_array().expect("a list");
        texts.extend(items.iter().filter_map(|item| item["body"].as_str()).map(str::to_owned));
        match page.body["next"].as_str() {
            Some(next) => query = format!("&cursor={next}"),
            None => return texts,
        }
    }
}

/// For each partition whose stream was lost, where its history begins.
async fn whole_since(system: &System) -> BTreeMap<u16, String> {
    let mut redis = system.redis.connect().await;
    let mut found = BTreeMap::new();
    for partition in Partition::all() {
        let mut get = redis::cmd("HGET");
        get.arg(Key::Cursor.of_partition(partition)).arg("since");
        let since: Option<String> = get.query_async(&mut redis).await.expect("redis answers");
        if let Some(since) = since {
            found.insert(partition.index() as u16, since);
        }
    }
    found
}

/// The auditor's verdict: Redis and all sums compared with Postgres.
pub fn audit(system: &System) -> Result<(), String> {
    let mut environment = system.environment();
    // The auditor reads everything, and may take its time.
    for (_, value) in environment.iter_mut().filter(|(name, _)| name == "OPTIMIST_REDIS_DEADLINE_MS") {
        "1000".clone_into(value);
    }
    let mut output = String::new();
    for _ in 0..5 {
        let agrees;
        (agrees, output) = Origin::command(&environment, &["check"]);
        if agrees {
            return Ok(());
        }
        // Otherwise it could not finish the comparison.
        if output.contains("differ from Postgres") {
            return Err(format!("it finds a difference: {}", summary(&output)));
        }
    }
    Err(format!("it comes to no opinion: {}", summary(&output)))
}

/// Its table without the log lines before it.
fn summary(output: &str) -> String {
    let is_log = |line: &&str| serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"] == "INFO");
    output.lines().filter(|line| !is_log(line)).collect::<Vec<_>>().join("\n")
}
