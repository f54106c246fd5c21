//! Callers that wait for queries: those of one key share a query until it is sent.
//!
//! State only; [`super::read`] sends the queries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::cache::value::Loaded;
use crate::error::Result;

pub type Shared = Result<Arc<Loaded>>;
/// The shared outcome of a query, for the group of callers that wait for it.
pub type Group = watch::Receiver<Option<Shared>>;
/// Held by the group whose query is under way.
pub type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub struct Waiting {
    /// Per key, the group that may still be joined.
    groups: Mutex<HashMap<String, Group>>,
    /// Per key, held by the group whose query is under way.
    turns: Mutex<HashMap<String, Turn>>,
}

/// How a caller joins.
pub enum Joined {
    /// A group that other callers have started.
    Theirs(Group),
    /// The first caller of a group, which sends the query when its turn comes.
    First { group: Group, publish: watch::Sender<Option<Shared>>, turn: Turn },
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

    /// Closes the group: later callers start the next one.
    pub fn close(&self, name: &str) {
        lock(&self.groups).remove(name);
    }

    /// Forgets a turn that nobody waits for.
    pub fn pass_turn(&self, name: &str, turn: &Turn) {
        let mut turns = lock(&self.turns);
        // Only the map and the caller hold it.
        if Arc::strong_count(turn) == 2 {
            turns.remove(name);
        }
    }
}

/// Ignores poisoning: a panic under the lock leaves the map usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
