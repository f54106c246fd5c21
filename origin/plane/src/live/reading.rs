//! The gateway's reader: it reads the followed partitions' streams, and shows what the relay has settled.
//!
//! The relay's scripts wake it over one connection, so that it hears of a stream's entries before it hears that they are settled. It
//! also looks by itself, since a wake may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, PushKind, RedisResult, Value};
use chrono::{DateTime, Utc};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;
use optimist_shared::wake::Wake;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::ctx::Ctx;
use crate::hooks;
use crate::live::place::Place;
use crate::live::rights::Change;
use crate::live::states::States;
use crate::live::telling::{frames, told_of};
use crate::outbox::event::Event;
use crate::redis::{Items, Position, RedisDown};

/// How often the reader looks at every followed partition, woken or not.
const LOOKS: Duration = Duration::from_secs(2);
/// Entries of a stream that are read at once: few enough to arrive well within a deadline.
pub const ENTRIES: usize = 100;
/// How long a subscription may take, and how long the reader waits after one that failed.
const PATIENCE: Duration = Duration::from_millis(700);
const AGAIN: Duration = Duration::from_millis(200);

/// An entry of a stream.
pub struct Entry {
    pub at: Position,
    pub topics: Vec<Uuid>,
    pub event: Event,
}

/// A part of a partition's stream.
pub struct Read {
    pub partition: Partition,
    pub entries: Vec<Entry>,
    /// Whether more entries may follow these.
    pub is_cut: bool,
    /// From where on the history is whole; `None` if there is no history.
    pub since: Option<Position>,
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let mut states = States::default();
    loop {
        match subscribe(&ctx).await {
            Ok(subscription) => listen(&ctx, subscription, &mut states).await,
            Err(error) => tracing::debug!(%error, "no subscription"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A connection on which wakes arrive, as long as it is kept.
struct Subscription {
    wakes: UnboundedReceiver<PushInfo>,
    connection: ::redis::aio::MultiplexedConnection,
}

async fn subscribe(ctx: &Ctx) -> RedisResult<Subscription> {
    let info = ctx.redis.client().get_connection_info().clone();
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = ctx.redis.client_with(info.set_redis_settings(settings))?;
    let (sender, wakes) = unbounded_channel();
    let config = AsyncConnectionConfig::new()
        .set_push_sender(sender)
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut pipeline = ::redis::pipe();
    for partition in Partition::all() {
        pipeline.cmd("SSUBSCRIBE").arg(Key::Wake.of_partition(partition)).ignore();
    }
    let () = pipeline.query_async(&mut connection).await?;
    Ok(Subscription { wakes, connection })
}

/// Follows the wakes until their connection ends.
async fn listen(ctx: &Ctx, mut subscription: Subscription, states: &mut States) {
    // Anything may have happened before it began.
    ctx.live.lock().mark_all();
    states.all_changed(ctx);
    let mut heard = Heard::default();
    let mut look = interval(LOOKS);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seconds = 0;
    loop {
        tokio::select! {
            wake = subscription.wakes.recv() => {
                let Some(wake) = wake else { return };
                if !heard.take(ctx, wake, states) {
                    return;
                }
                while let Ok(wake) = subscription.wakes.try_recv() {
                    if !heard.take(ctx, wake, states) {
                        return;
                    }
                }
            }
            _ = look.tick() => {
                // A connection that the network has forgotten brings nothing, and does not end.
                let ping: RedisResult<()> = ::redis::cmd("PING").query_async(&mut subscription.connection).await;
                if ping.is_err() {
                    return;
                }
                let Ok(settled) = settled(ctx).await else { continue };
                ctx.live.lock().mark_all();
                heard.settled = settled.or(heard.settled);
            }
            _ = second.tick() => {
                seconds += 1;
                let mut hub = ctx.live.lock();
                hub.beat(seconds);
                hub.sweep();
            }
            () = ctx.live.followed.notified() => {}
            () = states.due() => {}
        }
        // A store that does not answer now is asked again at the next look.
        let woken = std::mem::take(&mut heard.woken);
        if let Some(target) = heard.settled
            && pass(ctx, target, states).await == Ok(false)
        {
            prepare(ctx, target.timeline, &woken);
        }
        states.load(ctx);
    }
}

/// What the wakes have told.
#[derive(Default)]
struct Heard {
    settled: Option<Place>,
    /// Partitions with new entries, since the last pass.
    woken: BTreeSet<Partition>,
}

impl Heard {
    /// Takes a message of the subscription. Returns whether it goes on.
    fn take(&mut self, ctx: &Ctx, push: PushInfo, states: &mut States) -> bool {
        if push.kind == PushKind::Disconnection {
            return false;
        }
        if push.kind != PushKind::SMessage || hooks::disabled("wake") {
            return true;
        }
        let mut message = Items::new(Value::Array(push.data));
        let (channel, text) = (message.text(), message.text());
        match Wake::parse(&text) {
            Some(Wake::Events) => {
                let partition =
                    channel.split_once('{').and_then(|(_, rest)| Partition::parse(rest.strip_suffix('}')?));
                if let Some(partition) = partition {
                    ctx.live.lock().dirty.insert(partition);
                    self.woken.insert(partition);
                }
            }
            Some(Wake::Settled(place)) => self.settled = Place::parse(place).or(self.settled),
            Some(Wake::State { name, topics }) => states.changed(ctx, name, &topics),
            None => {}
        }
        true
    }
}

/// One preparation at a time: it only saves time.
static PREPARES: Semaphore = Semaphore::const_new(1);

/// Makes the frames of new entries while the relay has yet to say that they are settled.
fn prepare(ctx: &Ctx, timeline: u64, woken: &BTreeSet<Partition>) {
    let ranges: BTreeMap<Partition, Position> = {
        let hub = ctx.live.lock();
        let of = |partition: &Partition| hub.read_to.get(partition).map(|read_to| (*partition, *read_to));
        woken.iter().filter_map(of).collect()
    };
    let Some(turn) = PREPARES.try_acquire().ok().filter(|_| !ranges.is_empty()) else { return };
    let ctx = ctx.clone();
    tokio::spawn(async move {
        let _turn = turn;
        let Ok(parts) = read(&ctx, &ranges, ENTRIES).await else { return };
        let entries: Vec<Entry> = parts.into_iter().flat_map(|part| part.entries).collect();
        frames(&ctx, timeline, &followed(&ctx, entries.iter())).await;
    });
}

/// Those of the entries that somebody here follows.
fn followed<'a>(ctx: &Ctx, entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a Entry> {
    let hub = ctx.live.lock();
    let is_followed = |entry: &&Entry| entry.topics.iter().any(|topic| hub.topics.contains_key(topic));
    entries.filter(is_followed).collect()
}

/// The position up to which all streams hold their events; `None` if nobody has said.
async fn settled(ctx: &Ctx) -> Result<Option<Place>, RedisDown> {
    let mut command = Cmd::new();
    command.arg("GET").arg(Key::Settled.of_partition(Partition::COMMON));
    let values = ctx.redis.send([command]).await?;
    Ok(values.into_iter().next().and_then(|value| Place::parse(&Items::new(value).text())))
}

/// Reads what is new up to `target`, and shows it. Returns whether there was anything to show.
async fn pass(ctx: &Ctx, target: Place, states: &mut States) -> Result<bool, RedisDown> {
    let (pass, mut ranges) = {
        let mut hub = ctx.live.lock();
        hub.pass += 1;
        let known = hub.settled;
        if known.is_some_and(|known| known.timeline == target.timeline && known.at >= target.at) {
            return Ok(false);
        }
        let dirty = std::mem::take(&mut hub.dirty);
        let mut ranges = BTreeMap::new();
        for partition in dirty {
            // Partitions that nobody follows stay marked until somebody does.
            match hub.read_to.get(&partition) {
                Some(read_to) => drop(ranges.insert(partition, *read_to)),
                None => drop(hub.dirty.insert(partition)),
            }
        }
        (hub.pass, ranges)
    };
    let all: Vec<Partition> = ranges.keys().copied().collect();
    let mut entries: BTreeMap<Position, Entry> = BTreeMap::new();
    while !ranges.is_empty() {
        let parts = match read(ctx, &ranges, ENTRIES).await {
            Ok(parts) => parts,
            Err(down) => {
                ctx.live.lock().dirty.extend(all);
                return Err(down);
            }
        };
        let mut hub = ctx.live.lock();
        for part in parts {
            let from = ranges.remove(&part.partition).unwrap_or_default();
            let is_known = hub.settled.is_some_and(|known| known.timeline == target.timeline);
            match part.since {
                Some(since) if since > from && is_known => hub.break_off(part.partition, since),
                Some(_) => {}
                // The relay has yet to begin it anew.
                None => {
                    hub.dirty.extend(all);
                    return Ok(true);
                }
            }
            let beyond = part.entries.last().is_some_and(|last| last.at > target.at);
            if beyond {
                hub.dirty.insert(part.partition);
            } else if part.is_cut
                && let Some(last) = part.entries.last()
            {
                ranges.insert(part.partition, last.at);
            }
            let new = part.entries.into_iter().filter(|entry| entry.at <= target.at);
            entries.extend(new.map(|entry| (entry.at, entry)));
        }
    }
    let changes: Vec<(Position, Change)> =
        entries.values().filter_map(|entry| Some((entry.at, change_of(ctx, entry)?))).collect();
    if !hooks::disabled("rights") {
        ctx.live.lock().change(&changes);
    }
    hooks::step("live.read").await;
    let made = frames(ctx, target.timeline, &followed(ctx, entries.values())).await;
    let mut hub = ctx.live.lock();
    let mut topics: BTreeSet<Uuid> = BTreeSet::new();
    for frame in &made {
        if let Some(entry) = entries.get(&frame.at) {
            hub.push(&entry.topics, frame);
            topics.extend(&entry.topics);
        }
    }
    hub.publish(target, pass, &topics);
    drop(hub);
    entries.values().for_each(|entry| states.after(ctx, &entry.event.kind, &entry.topics));
    Ok(true)
}

/// What an entry changes of a person's rights.
pub fn change_of(ctx: &Ctx, entry: &Entry) -> Option<Change> {
    let mut rights = ctx.registry.domains.iter().flat_map(|domain| domain.rights);
    rights.find(|(kind, _)| *kind == entry.event.kind).and_then(|(_, change)| change(&entry.event))
}

/// Reads streams, each after a position: in one trip, and `most` entries of each.
pub async fn read(
    ctx: &Ctx,
    ranges: &BTreeMap<Partition, Position>,
    most: usize,
) -> Result<Vec<Read>, RedisDown> {
    let mut commands = Vec::with_capacity(ranges.len() * 2);
    for (partition, from) in ranges {
        let mut range = Cmd::new();
        range.arg("XRANGE").arg(Key::Events.of_partition(*partition)).arg(format!("({from}")).arg("+");
        range.arg("COUNT").arg(most);
        // After the entries: a history that ends in between is found broken.
        let mut since = Cmd::new();
        since.arg("HGET").arg(Key::Cursor.of_partition(*partition)).arg("since");
        commands.extend([range, since]);
    }
    let mut values = ctx.live_redis.send(commands).await?.into_iter();
    let mut parts = Vec::with_capacity(ranges.len());
    for partition in ranges.keys() {
        let (Some(Value::Array(items)), Some(since)) = (values.next(), values.next()) else {
            return Err(RedisDown);
        };
        let is_cut = items.len() >= most;
        let entries = items.into_iter().filter_map(|item| parse(ctx, item)).collect();
        let since = Position::parse(&Items::new(since).text());
        parts.push(Read { partition: *partition, entries, is_cut, since });
    }
    Ok(parts)
}

/// An entry, with its payload if somebody may want that.
fn parse(ctx: &Ctx, item: Value) -> Option<Entry> {
    let Value::Array(parts) = item else { return None };
    let mut parts = parts.into_iter();
    let at = Position::parse(&Items::new(parts.next()?).text())?;
    let mut fields = Items::new(parts.next()?);
    let (mut kind, mut topics, mut payload) = (String::new(), Vec::new(), String::new());
    let (mut actor, mut millis) = (None, 0);
    for _ in 0..6 {
        let (name, value) = (fields.text(), fields.text());
        match name.as_str() {
            "kind" => kind = value,
            "topics" => topics = value.split(' ').filter_map(parse_id).collect(),
            "actor" => actor = parse_id(&value),
            "at" => millis = value.parse().unwrap_or(0),
            "payload" => payload = value,
            _ => {}
        }
    }
    let is_change = ctx.registry.domains.iter().flat_map(|domain| domain.rights).any(|(of, _)| *of == kind);
    let payload = match is_change || told_of(ctx, &kind).is_some() {
        true => serde_json::from_str(&payload).unwrap_or_default(),
        false => serde_json::Value::Null,
    };
    let at_time: DateTime<Utc> = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    Some(Entry { at, topics, event: Event::of_entry(kind, actor, at_time, payload) })
}
