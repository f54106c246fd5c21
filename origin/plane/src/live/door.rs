//! The gateway's door: how many connections there are, and whether there is room for another.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::live::Bound;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::now_ms;
use crate::error::Error;

/// Connections that begin to follow at once, and how many may wait for that: a few seconds' work.
const BEGIN: usize = 4;
const WAIT: u32 = 1_000;
/// How long a turn rests after it has ended, at most. Where everything is slow a rest would only keep clients waiting.
const REST: Duration = Duration::from_millis(3);

/// How many connections there are, by person and by address.
pub struct Door {
    counted: Mutex<Counted>,
    turns: Arc<Semaphore>,
    waiting: AtomicU32,
}

impl Default for Door {
    fn default() -> Door {
        let turns = Arc::new(Semaphore::new(BEGIN));
        Door { counted: Mutex::default(), turns, waiting: AtomicU32::new(0) }
    }
}

/// A connection's turn to begin. When it ends, the next one's waits as long as it has taken, if that was short: however many come
/// back together, time is left to everybody else.
pub struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    began: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (permit, took) = (self.permit.take(), self.began.elapsed());
        tokio::spawn(async move {
            tokio::time::sleep(took.min(REST)).await;
            drop(permit);
        });
    }
}

/// A connection among those that wait for their turn.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct Counted {
    pub all: u32,
    users: HashMap<Uuid, u32>,
    addresses: HashMap<String, u32>,
    edges: HashMap<IpAddr, u32>,
    second: u64,
    arrived: u32,
}

/// An edge that carries so many streams at most, by its address.
#[derive(Clone, Copy)]
pub struct Through {
    pub edge: IpAddr,
    pub most: u32,
}

/// A connection that asks to be let in.
pub struct Arrival<'a> {
    pub user: Uuid,
    pub address: &'a str,
    pub through: Option<Through>,
}

impl Door {
    pub fn count(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn to begin. [`Full::Process`] if too many wait.
    pub async fn turn(&self) -> Result<Turn, Full> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAIT {
            return Err(Full::Process);
        }
        let permit = self.turns.clone().acquire_owned().await.ok();
        Ok(Turn { permit, began: Instant::now() })
    }

    /// Counts a connection: 429 if the person or the address has enough, 503 if the process has, [`Full::Edge`] if the edge has.
    pub fn enter(&self, arrival: &Arrival) -> Result<(), Full> {
        let most = |bound: Bound| bound.row().most;
        let mut counted = self.count();
        let second = now_ms() / 1000;
        if counted.second != second {
            (counted.second, counted.arrived) = (second, 0);
        }
        if counted.arrived >= most(Bound::Arrivals) || counted.all >= most(Bound::Process) {
            return Err(Full::Process);
        }
        let of_edge =
            arrival.through.map(|through| (through, counted.edges.get(&through.edge).copied().unwrap_or(0)));
        if of_edge.is_some_and(|(through, count)| count >= through.most) {
            return Err(Full::Edge);
        }
        let of_user = counted.users.get(&arrival.user).copied().unwrap_or_default();
        let of_address = counted.addresses.get(arrival.address).copied().unwrap_or_default();
        for (count, bound) in [(of_user, Bound::User), (of_address, Bound::Address)] {
            if count >= most(bound) {
                return Err(Full::Bound(bound));
            }
        }
        counted.arrived += 1;
        counted.all += 1;
        counted.users.insert(arrival.user, of_user + 1);
        counted.addresses.insert(arrival.address.to_owned(), of_address + 1);
        if let Some((through, count)) = of_edge {
            counted.edges.insert(through.edge, count + 1);
        }
        Ok(())
    }
}

/// The bound that a refused connection has met.
#[derive(Debug, PartialEq, Eq)]
pub enum Full {
    Process,
    Edge,
    Bound(Bound),
}

impl Full {
    /// The refusal. `gateway` is where clients connect directly.
    pub fn error(&self, gateway: &str) -> Error {
        // So that those who are refused together do not return together.
        let after = 1 + u64::from(Uuid::now_v7().as_bytes()[15] % 10);
        let error = match self {
            Full::Process => Error::unavailable("The gateway"),
            Full::Edge => {
                let detail =
                    format!("This edge carries no more event streams. Connect to {gateway} with a ticket.");
                Error::new(ErrorCode::Unavailable).detail(detail)
            }
            Full::Bound(bound) => {
                let row = bound.row();
                Error::new(ErrorCode::RateLimited).detail(format!("At most {} {}.", row.most, row.of))
            }
        };
        error.retry_after(after)
    }
}

impl Counted {
    /// Frees a connection's place.
    pub fn leave(&mut self, user: &Uuid, address: &String, through: Option<Through>) {
        self.all = self.all.saturating_sub(1);
        leave(&mut self.users, user);
        leave(&mut self.addresses, address);
        if let Some(through) = through {
            leave(&mut self.edges, &through.edge);
        }
    }
}

fn leave<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_few_begin_at_once_and_the_others_wait_in_bounds() {
        let door = Door::default();
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let begin = async || {
            let turn = door.turn().await;
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            turn.is_ok()
        };
        let all: Vec<bool> = futures_util::future::join_all((0..5 * BEGIN).map(|_| begin())).await;
        assert!(all.iter().all(|is_in| *is_in));
        assert_eq!(most.load(Ordering::Relaxed), BEGIN as u32);
        let waiting = (0..WAIT).map(|_| Waiting(&door.waiting)).collect::<Vec<_>>();
        door.waiting.fetch_add(WAIT, Ordering::Relaxed);
        assert_eq!(door.turn().await.err(), Some(Full::Process), "too many wait");
        drop(waiting);
        assert!(door.turn().await.is_ok(), "they are gone");
    }

    #[test]
    fn an_edge_that_carries_enough_is_named_before_its_clients() {
        let door = Door::default();
        let through = Some(Through { edge: [192, 0, 2, 1].into(), most: 2 });
        let enter = |through, address: &str| {
            let user = Uuid::now_v7();
            door.enter(&Arrival { user, address, through }).map(|()| user)
        };
        let first = enter(through, "a").unwrap();
        enter(through, "b").unwrap();
        assert_eq!(enter(through, "c").err(), Some(Full::Edge));
        let other = Some(Through { edge: [192, 0, 2, 2].into(), most: 2 });
        assert!(enter(other, "c").is_ok() && enter(None, "c").is_ok());
        door.count().leave(&first, &"a".to_owned(), through);
        assert!(enter(through, "c").is_ok());
        let detail = format!("{:?}", Full::Edge.error("https://live.example.org"));
        assert!(detail.contains("https://live.example.org"), "{detail}");
    }
}
