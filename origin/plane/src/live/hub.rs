//! The gateway's memory: who is connected, what they follow, and the newest events of each followed topic.
//!
//! State only: [`super::reading`] fills it, [`super::follower`] reads it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use optimist_shared::ids::{Partition, Uuid};
use tokio::sync::{Notify, OnceCell};

use crate::hooks;
use crate::http::nonces::Nonces;
use crate::live::door::Door;
use crate::live::frame::Frame;
use crate::live::place::Place;
use crate::live::rights::{Change, Effect, Rights};
use crate::redis::Position;

/// Events that a topic's ring holds: a second's, where many talk at once.
const RING: usize = 64;
/// Frames that are kept for those who read from the streams.
const MADE: usize = 8_192;
/// How long a topic without followers is kept: they may have lost their connection.
const LINGERS: Duration = Duration::from_secs(30);
/// Seconds between a connection's heartbeats.
pub const BEATS: u64 = 25;
/// The same through an edge that carries few streams: it finds that a client has gone only when it next writes to it, and keeps its
/// place until then.
pub const BEATS_THROUGH_EDGE: u64 = 5;

/// A connection's heartbeat is due.
pub const BEAT: u8 = 1;
/// Its session may be over.
pub const CHECK: u8 = 2;
/// The process stops.
pub const STOP: u8 = 4;

/// A subscriber's connection, as others see it.
pub struct Connection {
    pub id: u64,
    pub user: Uuid,
    pub session: Uuid,
    beats: u64,
    pub wake: Notify,
    flags: AtomicU8,
    pub rights: Mutex<Rights>,
}

impl Connection {
    pub fn raise(&self, flag: u8) {
        self.flags.fetch_or(flag, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether its session may be over, since the flags were taken.
    pub fn is_suspect(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & CHECK != 0
    }

    /// Takes the flags that were raised.
    pub fn flags(&self) -> u8 {
        self.flags.swap(0, Ordering::Relaxed)
    }
}

/// A topic that somebody here follows, or did a moment ago.
pub struct Topic {
    ring: VecDeque<Arc<Frame>>,
    /// The ring holds every event after this one.
    whole_from: Position,
    followers: HashMap<u64, Arc<Connection>>,
    left: Option<Instant>,
    /// The pass of the reader in which it began.
    pass: u64,
    /// The last value of each state, and its number among all values.
    states: Vec<(&'static str, u64, Arc<Frame>)>,
}

#[derive(Default)]
pub struct Hub {
    /// Up to here every followed topic's events are in the rings.
    pub settled: Option<Place>,
    pub topics: HashMap<Uuid, Topic>,
    pub people: HashMap<Uuid, Vec<Arc<Connection>>>,
    /// The position up to which each followed partition was read.
    pub read_to: HashMap<Partition, Position>,
    /// Partitions of which something may be unread, followed or not.
    pub dirty: BTreeSet<Partition>,
    pub pass: u64,
    values: u64,
    connected: u64,
    /// Topics that somebody has begun to follow: their states are read.
    pub fresh: Vec<Uuid>,
    /// States that could not be read.
    pub unread: Vec<(&'static str, Uuid)>,
    is_stopping: bool,
}

/// What a connection finds.
pub enum Found {
    Nothing,
    /// Frames in order, and the position that the connection is then at.
    Frames(Vec<Arc<Frame>>, Position),
    /// It is further behind than a ring reaches.
    Behind,
    /// The timeline is another one: positions mean nothing any more.
    OtherTimeline(Place),
}

/// A frame that somebody makes, or has made: those who need it at the same time wait for it.
pub type Making = Arc<OnceCell<Arc<Frame>>>;

/// The gateway's state.
#[derive(Default)]
pub struct Live {
    hub: Mutex<Hub>,
    made: Mutex<HashMap<Place, Making>>,
    pub door: Door,
    /// Tickets that were used here, for when Redis cannot be asked.
    pub tickets: Nonces,
    /// The URL under which clients reach this process's gateway, or all of them.
    pub url: OnceLock<String>,
    /// The API, which serves sockets' commands.
    pub api: OnceLock<Router>,
    /// Wakes the reader, when somebody follows something new.
    pub followed: Notify,
}

impl Live {
    pub fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn making(&self, id: Place) -> Making {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MADE {
            made.clear();
        }
        made.entry(id).or_default().clone()
    }

    /// What the connection may receive after `cursor`, at most `most` events.
    pub fn collect(&self, connection: &Connection, cursor: Place, most: usize) -> Found {
        let hub = self.lock();
        let Some(settled) = hub.settled else { return Found::Nothing };
        if settled.timeline != cursor.timeline {
            return Found::OtherTimeline(settled);
        }
        if settled.at <= cursor.at {
            return Found::Nothing;
        }
        let rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
        let mut frames: Vec<&Arc<Frame>> = Vec::new();
        for (id, from) in &rights.topics {
            let Some(topic) = hub.topics.get(id) else { continue };
            if topic.whole_from > cursor.at.max(*from) {
                return Found::Behind;
            }
            let first = topic.ring.partition_point(|frame| frame.at <= cursor.at);
            frames.extend(topic.ring.range(first..).filter(|frame| frame.at >= *from));
        }
        // An event of two topics came twice.
        frames.sort_unstable_by_key(|frame| frame.at);
        frames.dedup_by_key(|frame| frame.at);
        let is_all = frames.len() <= most;
        frames.truncate(most);
        let to = frames.last().filter(|_| !is_all).map_or(settled.at, |frame| frame.at);
        Found::Frames(frames.into_iter().cloned().collect(), to)
    }

    /// The states of the connection's topics that changed after the value `seen`, in their order; and the newest value's number.
    pub fn states(&self, connection: &Connection, seen: u64) -> (Vec<Arc<Frame>>, u64) {
        let hub = self.lock();
        if hub.values <= seen {
            return (Vec::new(), seen);
        }
        let rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = rights.topics.keys().filter_map(|id| hub.topics.get(id));
        let states = topics.flat_map(|topic| &topic.states).filter(|(_, number, _)| *number > seen);
        let mut found: Vec<(u64, &Arc<Frame>)> = states.map(|(_, number, frame)| (*number, frame)).collect();
        found.sort_unstable_by_key(|(number, _)| *number);
        (found.into_iter().map(|(_, frame)| frame.clone()).collect(), hub.values)
    }
}

impl Hub {
    /// Registers a connection, which follows its person's own topic from now on.
    pub fn connect(&mut self, user: Uuid, session: Uuid, beats: u64, rights: Rights) -> Arc<Connection> {
        self.connected += 1;
        let connection = Arc::new(Connection {
            id: self.connected,
            user,
            session,
            beats,
            wake: Notify::new(),
            flags: AtomicU8::new(if self.is_stopping { STOP } else { 0 }),
            rights: Mutex::new(rights),
        });
        self.people.entry(user).or_default().push(connection.clone());
        self.follow(user, &connection);
        connection
    }

    pub fn follow(&mut self, id: Uuid, connection: &Arc<Connection>) {
        let partition = Partition::of(id);
        let settled = self.settled.unwrap_or_default().at;
        if let std::collections::hash_map::Entry::Vacant(unread) = self.read_to.entry(partition) {
            unread.insert(settled);
            self.dirty.insert(partition);
        }
        // Read anew for a topic that is known too: a wake may have been lost.
        self.fresh.push(id);
        let pass = self.pass;
        let topic = self.topics.entry(id).or_insert_with(|| Topic {
            ring: VecDeque::new(),
            whole_from: settled,
            followers: HashMap::new(),
            left: None,
            pass,
            states: Vec::new(),
        });
        topic.left = None;
        topic.followers.insert(connection.id, connection.clone());
    }

    pub fn unfollow(&mut self, id: Uuid, connection: &Connection) {
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.followers.remove(&connection.id);
            if topic.followers.is_empty() {
                topic.left = Some(Instant::now());
            }
        }
    }

    pub fn disconnect(&mut self, connection: &Connection) {
        let topics: Vec<Uuid> = {
            let rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
            rights.topics.keys().copied().chain([connection.user]).collect()
        };
        topics.into_iter().for_each(|topic| self.unfollow(topic, connection));
        if let Some(others) = self.people.get_mut(&connection.user) {
            others.retain(|other| other.id != connection.id);
            if others.is_empty() {
                self.people.remove(&connection.user);
            }
        }
    }

    /// Applies what events have changed, before any of the events after them is shown.
    pub fn change(&mut self, changes: &[(Position, Change)]) {
        for (at, change) in changes {
            let people = match change {
                Change::Gained { user, .. } | Change::Lost { user, .. } | Change::Sessions { user } => {
                    [Some(user), None]
                }
                Change::Blocks { user, other, .. } => [Some(user), Some(other)],
            };
            let connections = people.into_iter().flatten().filter_map(|user| self.people.get(user));
            for connection in connections.flatten().cloned().collect::<Vec<_>>() {
                if matches!(change, Change::Sessions { .. }) {
                    connection.raise(CHECK);
                    continue;
                }
                let effect = {
                    let mut rights = connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
                    rights.change(connection.user, *at, *change)
                };
                match effect {
                    Effect::Follows(topic) => self.follow(topic, &connection),
                    Effect::Leaves(topic) => self.unfollow(topic, &connection),
                    Effect::None => {}
                }
            }
        }
    }

    /// Puts an event into the rings of its topics.
    pub fn push(&mut self, topics: &[Uuid], frame: &Arc<Frame>) {
        for id in topics {
            let Some(topic) = self.topics.get_mut(id) else { continue };
            if topic.ring.back().is_some_and(|last| last.at >= frame.at) {
                continue;
            }
            topic.ring.push_back(frame.clone());
            if topic.ring.len() > RING
                && let Some(oldest) = topic.ring.pop_front()
                && !hooks::disabled("overrun")
            {
                topic.whole_from = topic.whole_from.max(oldest.at);
            }
        }
    }

    /// A partition's history is not whole before this position: those who were not past it find out in its stream.
    pub fn break_off(&mut self, partition: Partition, since: Position) {
        for (id, topic) in &mut self.topics {
            if Partition::of(*id) == partition {
                topic.ring.clear();
                topic.whole_from = topic.whole_from.max(since);
            }
        }
    }

    /// Shows everything up to a position to those who follow one of the topics.
    pub fn publish(&mut self, settled: Place, pass: u64, topics: &BTreeSet<Uuid>) {
        let is_other = self.settled.is_none_or(|known| known.timeline != settled.timeline);
        for topic in self.topics.values_mut() {
            // Its partition may not have been read in this pass.
            if topic.pass >= pass || is_other {
                topic.whole_from = settled.at;
                topic.pass = 0;
                topic.ring.clear();
            }
        }
        self.read_to.values_mut().for_each(|read_to| *read_to = (*read_to).max(settled.at));
        if is_other {
            self.read_to.values_mut().for_each(|read_to| *read_to = settled.at);
        }
        let is_first = self.settled.replace(settled).is_none() || is_other;
        let told = topics.iter().filter_map(|id| self.topics.get(id));
        told.flat_map(|topic| topic.followers.values()).for_each(|follower| follower.wake.notify_one());
        if is_first {
            self.people.values().flatten().for_each(|connection| connection.wake.notify_one());
        }
    }

    /// Takes a state's value, unless it is the same. Whoever follows the topic is told.
    pub fn put_state(&mut self, id: Uuid, name: &'static str, data: &str, frame: Arc<Frame>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let known = topic.states.iter().position(|(known, ..)| *known == name);
        if let Some(known) = known {
            let json = topic.states[known].2.json();
            if json.as_str().ends_with(format!(r#""data":{data}}}"#).as_str()) {
                return;
            }
            topic.states.remove(known);
        }
        self.values += 1;
        topic.states.push((name, self.values, frame));
        topic.followers.values().for_each(|follower| follower.wake.notify_one());
    }

    /// Forgets topics and partitions that nobody follows any more.
    pub fn sweep(&mut self) {
        self.topics.retain(|_, topic| topic.left.is_none_or(|left| left.elapsed() < LINGERS));
        let followed: BTreeSet<Partition> = self.topics.keys().map(|id| Partition::of(*id)).collect();
        self.read_to.retain(|partition, _| followed.contains(partition));
    }

    /// Raises the heartbeat of those whose turn it is.
    pub fn beat(&self, second: u64) {
        // Spread over the seconds.
        let due = |connection: &&Arc<Connection>| (connection.id + second).is_multiple_of(connection.beats);
        self.people.values().flatten().filter(due).for_each(|connection| connection.raise(BEAT));
    }

    /// The connections, of which new ones are told to stop at once.
    pub fn stop(&mut self) -> Vec<Arc<Connection>> {
        self.is_stopping = true;
        self.people.values().flatten().cloned().collect()
    }

    pub fn mark_all(&mut self) {
        self.dirty.extend(Partition::all());
    }
}
