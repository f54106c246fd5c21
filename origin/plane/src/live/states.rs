//! States: values that subscribers receive whole, of which only the last counts. Each is read once for all who follow its topic, and at
//! most twice a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use optimist_shared::ids::Uuid;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::ctx::Ctx;
use crate::domain::{Of, State};
use crate::live::frame::Frame;

/// How long a value stands at least before the next one.
const STANDS: Duration = Duration::from_millis(500);

/// How long it waits after a store that did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Values that are read at once: many who connect together ask for many.
static TURNS: Semaphore = Semaphore::const_new(16);

/// A state of a topic, by its row and the topic's id.
type Which = (&'static str, Uuid);

/// The reader's memory of what has changed.
#[derive(Default)]
pub struct States {
    /// When each changed state is read.
    due: HashMap<Which, Instant>,
    /// When each was read last.
    read: HashMap<Which, Instant>,
}

fn rows(ctx: &Ctx) -> impl Iterator<Item = &'static State> {
    ctx.registry.domains.iter().flat_map(|domain| domain.states)
}

impl States {
    /// Takes note that a state of some topics has changed.
    pub fn changed(&mut self, ctx: &Ctx, name: &str, topics: &[Uuid]) {
        let Some(state) = rows(ctx).find(|state| state.name == name) else { return };
        let now = Instant::now();
        let hub = ctx.live.lock();
        for topic in topics.iter().filter(|topic| hub.topics.contains_key(topic)) {
            let which = (state.name, *topic);
            let due = self.read.get(&which).map_or(now, |read| (*read + STANDS).max(now));
            self.due.entry(which).or_insert(due);
        }
    }

    /// An event has changed those states of its topics that its kind names.
    pub fn after(&mut self, ctx: &Ctx, kind: &str, topics: &[Uuid]) {
        for state in rows(ctx).filter(|state| state.after.contains(&kind)) {
            self.changed(ctx, state.name, topics);
        }
    }

    /// All may have changed: wakes were lost.
    pub fn all_changed(&mut self, ctx: &Ctx) {
        let topics: Vec<Uuid> = ctx.live.lock().topics.keys().copied().collect();
        for state in rows(ctx) {
            self.changed(ctx, state.name, &topics);
        }
    }

    /// Returns once the next one is due.
    pub async fn due(&self) {
        until(self.due.values().min().copied()).await;
    }

    /// Begins to read what is due, and the states of topics that are new.
    pub fn load(&mut self, ctx: &Ctx) {
        let (fresh, unread) = {
            let mut hub = ctx.live.lock();
            (std::mem::take(&mut hub.fresh), std::mem::take(&mut hub.unread))
        };
        unread.into_iter().for_each(|(name, topic)| self.changed(ctx, name, &[topic]));
        for state in rows(ctx) {
            self.changed(ctx, state.name, &fresh);
        }
        let now = Instant::now();
        self.read.retain(|_, read| now - *read < STANDS);
        let due: Vec<Which> =
            self.due.iter().filter(|(_, due)| **due <= now).map(|(which, _)| *which).collect();
        for which in due {
            self.due.remove(&which);
            self.read.insert(which, now);
            let (name, topic) = which;
            if let Some(state) = rows(ctx).find(|state| state.name == name) {
                tokio::spawn(load(ctx.clone(), state, topic));
            }
        }
    }
}

async fn load(ctx: Ctx, state: &'static State, topic: Uuid) {
    let is_persons = ctx.live.lock().people.contains_key(&topic);
    if is_persons != (state.of == Of::Person) {
        return;
    }
    let turn = TURNS.acquire().await;
    let loaded = (state.load)(&ctx, topic).await;
    drop(turn);
    let data = match loaded {
        Ok(Some(data)) => data,
        Ok(None) => return,
        // A store that does not answer was logged where it failed.
        Err(_) => {
            tokio::time::sleep(AGAIN).await;
            ctx.live.lock().unread.push((state.name, topic));
            ctx.live.followed.notify_one();
            return;
        }
    };
    let Ok(data) = String::from_utf8(data) else { return };
    let circle = topic.to_string();
    let circle = (state.of == Of::Followed).then_some(circle.as_str());
    let frame = Arc::new(Frame::of(None, state.name, circle, &data));
    ctx.live.lock().put_state(topic, state.name, &data, frame);
}

/// Waits until a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
