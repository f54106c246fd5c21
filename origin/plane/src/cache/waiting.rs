//! Who waits for which query: callers of a key share one, as long as it has not been sent when they come.
//!
//! State only; [`super::read`] sends the queries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::cache::value::Loaded;
use crate::error::Result;

pub type Outcome = Result<Arc<Loaded>>;
/// Those who wait for a query that has not been sent yet.
pub type Group = watch::Receiver<Option<Outcome>>;
/// Held by the group whose query is under way.
pub type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub struct Waiting {
    /// Per key, the group that may still be joined.
    groups: Mutex<HashMap<String, Group>>,
    /// Per key, held by the group whose query is under way.
    turns: Mutex<HashMap<String, Turn>>,
}

/// How somebody joins.
pub enum Joined {
    /// A query that others have asked for.
    Theirs(Group),
    /// The first of a group, who sees to it that the query is sent when the turn comes.
    First { group: Group, publish: watch::Sender<Option<Outcome>>, turn: Turn },
}

impl Waiting {
    pub fn join(&self, name: &str) -> Joined {
        let mut groups = lock(&self.groups);
        if let Some(group) = groups.get(name) {
            return Joined::Theirs(group.clone());
        }
        let (publish, group) = watch::channel(None);
        groups.insert(name.to_owned(), group.clone());
        let turn = lock(&self.turns).entry(name.to_owned()).or_default().clone();
        Joined::First { group, publish, turn }
    }

    /// Whoever comes from here on starts the next group.
    pub fn close(&self, name: &str) {
        lock(&self.groups).remove(name);
    }

    /// Forgets a turn that nobody waits for.
    pub fn pass_turn(&self, name: &str, turn: &Turn) {
        let mut turns = lock(&self.turns);
        // Held by the map and by the caller alone.
        if Arc::strong_count(turn) == 2 {
            turns.remove(name);
        }
    }
}

/// A panic while the lock was held leaves a map that is still a map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
