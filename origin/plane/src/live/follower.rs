//! A subscriber's cursor: what its connection sends next, and when it ends. A connection has no queue of its own.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use optimist_shared::ids::Uuid;
use serde_json::json;

use crate::clock::now_ms;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::live::commands::Person;
use crate::live::frame::{Frame, HEARTBEAT};
use crate::live::hub::{BEAT, CHECK, Connection, Found, STOP};
use crate::live::pass::Pass;
use crate::live::place::Place;
use crate::live::replay::{replay, return_of};
use crate::live::rights::{Rights, Seen};
use crate::live::veil;

/// Frames that are handed to a connection at once.
const AT_ONCE: usize = 16;
/// How often the session is told that it is in use: within its idle time.
const EXTENDED: Duration = Duration::from_secs(300);
/// How long a connection waits after a store did not answer.
const AGAIN: Duration = Duration::from_millis(200);
/// Milliseconds within which clients come back after a stop, each at a random moment.
const SPREAD_MS: u64 = 10_000;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its session is over.
    Session,
    /// The process stops; the client may come back after so many milliseconds.
    Stopping { after_ms: u64 },
}

/// What a connection does next.
pub enum Next {
    Send(Vec<Arc<Frame>>),
    End(Ending),
}

/// A connection's end of the gateway. It leaves the gateway when it is dropped.
pub struct Follower {
    ctx: Ctx,
    pass: Pass,
    connection: Arc<Connection>,
    cursor: Option<Place>,
    /// The position that the client came with.
    last: Option<Place>,
    /// The number of the newest state's value that was sent.
    seen: u64,
    ends_at_ms: u64,
    extended: Instant,
    is_checked: bool,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.ctx.live.lock().disconnect(&self.connection);
    }
}

/// Who subscribes to what.
pub struct Wanted {
    pub user: Uuid,
    pub session: Uuid,
    /// The topics that the client asks for besides its person's own; all if there are none.
    pub only: Option<HashSet<Uuid>>,
    pub last: Option<Place>,
}

impl Follower {
    /// Begins to follow what the person may receive. 401 if the session is over.
    pub async fn start(pass: Pass, wanted: Wanted) -> Result<Follower> {
        let ctx = &pass.ctx.clone();
        let Wanted { user, session, mut only, last } = wanted;
        if let Some(only) = &mut only {
            only.insert(user);
        }
        let gateway = ctx.live.url.get().map_or("the gateway", String::as_str);
        let _turn = ctx.live.door.turn().await.map_err(|full| full.error(gateway))?;
        let connection = ctx.live.lock().connect(user, session, pass.beats(), Rights::new(only));
        let mut follower = Follower {
            ctx: ctx.clone(),
            pass,
            connection,
            cursor: None,
            last,
            seen: 0,
            ends_at_ms: 0,
            extended: Instant::now(),
            is_checked: true,
        };
        // After the connection is known, so that no change falls between the two.
        let over = || Error::new(optimist_shared::error::ErrorCode::Unauthenticated);
        let ends = (ctx.registry.guard.extend_session)(ctx, user, session).await?;
        follower.ends_at_ms = ends.ok_or_else(over)?;
        let subscription = (ctx.registry.guard.followed)(ctx, user).await?;
        let seen = Seen::parse(&subscription.seen);
        let seen = seen.ok_or_else(|| Error::internal("live", &"a snapshot of another form"))?;
        let mut hub = ctx.live.lock();
        let followed: Vec<Uuid> = {
            let mut rights = follower.connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
            rights.settle(user, seen, subscription);
            rights.topics.keys().copied().collect()
        };
        followed.into_iter().for_each(|topic| hub.follow(topic, &follower.connection));
        drop(hub);
        ctx.live.followed.notify_one();
        Ok(follower)
    }

    pub fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// Who is at its other end.
    pub fn person(&self) -> Person {
        let Connection { user, session, .. } = *self.connection;
        Person { user, session, client: self.pass.address().to_owned() }
    }

    /// What comes next, once there is something.
    pub async fn next(&mut self) -> Next {
        loop {
            let flags = self.connection.flags();
            if flags & STOP != 0 {
                return Next::End(Ending::Stopping { after_ms: u64::from(random()) % SPREAD_MS });
            }
            if flags & CHECK != 0 || self.extended.elapsed() > EXTENDED {
                self.is_checked = false;
            }
            if !self.is_checked {
                Box::pin(self.check()).await;
                if !self.is_checked {
                    continue;
                }
            }
            if now_ms() >= self.ends_at_ms {
                return Next::End(Ending::Session);
            }
            let Some(cursor) = self.cursor else {
                match Box::pin(self.arrive()).await {
                    Some(ready) => return Next::Send(vec![ready]),
                    None => {
                        self.connection.wake.notified().await;
                        continue;
                    }
                }
            };
            let connection = self.connection.clone();
            let found = self.ctx.live.collect(&connection, cursor, AT_ONCE);
            if connection.is_suspect() {
                // What was found may follow the end of its session.
                self.again(flags);
                continue;
            }
            match found {
                Found::Frames(frames, to) => {
                    self.cursor = Some(Place { at: to, ..cursor });
                    let frames = veil::events(&self.ctx, &connection, frames);
                    if !frames.is_empty() {
                        self.again(flags);
                        return Next::Send(frames);
                    }
                }
                Found::Behind => {
                    let frames = Box::pin(self.catch_up(cursor)).await;
                    let frames = veil::events(&self.ctx, &connection, frames);
                    self.again(flags);
                    if frames.is_empty() {
                        continue;
                    }
                    return Next::Send(frames);
                }
                Found::OtherTimeline(settled) => {
                    self.cursor = Some(settled);
                    let topics = self.topics();
                    return Next::Send(vec![ready(settled, false, topics)]);
                }
                Found::Nothing => {}
            }
            let (states, seen) = self.ctx.live.states(&connection, self.seen);
            self.seen = seen;
            let states = veil::states(&self.ctx, &connection, states);
            if !states.is_empty() {
                self.again(flags);
                return Next::Send(states);
            }
            if flags & BEAT != 0 {
                let at = self.cursor.unwrap_or(cursor);
                return Next::Send(vec![Arc::new(Frame::of(Some(at), HEARTBEAT, None, "{}"))]);
            }
            self.connection.wake.notified().await;
        }
    }

    /// A heartbeat that was due stays due.
    fn again(&self, flags: u8) {
        if flags & BEAT != 0 {
            self.connection.raise(BEAT);
        }
    }

    /// Sees whether the session goes on, and says that it is in use.
    async fn check(&mut self) {
        let (user, session) = (self.connection.user, self.connection.session);
        match (self.ctx.registry.guard.extend_session)(&self.ctx, user, session).await {
            Ok(ends) => {
                self.ends_at_ms = ends.unwrap_or_default();
                self.extended = Instant::now();
                self.is_checked = true;
            }
            // Nothing is sent until it is known.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }

    /// The first frame: whether everything since the client's position follows, and what to load anew. `None` while the position of
    /// the region is not known.
    async fn arrive(&mut self) -> Option<Arc<Frame>> {
        let settled = self.ctx.live.lock().settled?;
        let Some(last) = self.last else {
            self.cursor = Some(settled);
            return Some(ready(settled, true, Vec::new()));
        };
        if last.timeline != settled.timeline {
            self.cursor = Some(settled);
            return Some(ready(settled, false, self.topics()));
        }
        loop {
            match return_of(&self.ctx, &self.connection, last).await {
                Ok(found) => {
                    let is_whole = found.broken.is_empty();
                    let mut reload = found.broken;
                    let mut rights = self.connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
                    for (topic, at) in found.gained {
                        if let Some(from) = rights.topics.get_mut(&topic) {
                            *from = (*from).max(at);
                            reload.insert(topic);
                        }
                    }
                    self.cursor = Some(last);
                    return Some(ready(last, is_whole, reload.into_iter().collect()));
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Reads a part of what the rings do not hold any more.
    async fn catch_up(&mut self, cursor: Place) -> Vec<Arc<Frame>> {
        let Ok(missed) = replay(&self.ctx, &self.connection, cursor).await else {
            tokio::time::sleep(AGAIN).await;
            return Vec::new();
        };
        let at = Place { at: missed.to.max(cursor.at), ..cursor };
        self.cursor = Some(at);
        let mut frames = missed.frames;
        // The client was told at its arrival, if it came with this position.
        if !missed.broken.is_empty() && self.last.is_none_or(|last| last != cursor) {
            frames.insert(0, ready(cursor, false, missed.broken));
        }
        frames
    }

    fn topics(&self) -> Vec<Uuid> {
        let rights = self.connection.rights.lock().unwrap_or_else(PoisonError::into_inner);
        rights.topics.keys().copied().collect()
    }
}

fn ready(at: Place, is_recovered: bool, reload: Vec<Uuid>) -> Arc<Frame> {
    let data = json!({"recovered": is_recovered, "reload": reload}).to_string();
    Arc::new(Frame::of(Some(at), "ready", None, &data))
}

/// A random number that need not be secret.
fn random() -> u32 {
    // The last bytes of a UUIDv7 are random.
    Uuid::now_v7().as_u64_pair().1 as u32
}
