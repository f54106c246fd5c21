//! The gateway's door: how many connections there are, and whether there is room for another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::live::Bound;

use crate::clock::now_ms;
use crate::error::{Error, Result};

/// How many connections there are, by person and by address.
#[derive(Default)]
pub struct Door {
    counted: Mutex<Counted>,
}

#[derive(Default)]
pub struct Counted {
    pub all: u32,
    users: HashMap<Uuid, u32>,
    addresses: HashMap<String, u32>,
    second: u64,
    arrived: u32,
}

impl Door {
    pub fn count(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(&self, user: Uuid, address: &str) -> Result<()> {
        let most = |bound: Bound| bound.row().most;
        // So that those who are refused together do not return together.
        let spread = || 1 + u64::from(Uuid::now_v7().as_bytes()[15] % 10);
        let mut counted = self.count();
        let second = now_ms() / 1000;
        if counted.second != second {
            (counted.second, counted.arrived) = (second, 0);
        }
        if counted.arrived >= most(Bound::Arrivals) || counted.all >= most(Bound::Process) {
            return Err(Error::unavailable("The gateway").retry_after(spread()));
        }
        let of_user = counted.users.get(&user).copied().unwrap_or_default();
        let of_address = counted.addresses.get(address).copied().unwrap_or_default();
        for (count, bound) in [(of_user, Bound::User), (of_address, Bound::Address)] {
            if count >= most(bound) {
                let detail = format!("At most {} {}.", most(bound), bound.row().of);
                return Err(Error::new(ErrorCode::RateLimited).detail(detail).retry_after(spread()));
            }
        }
        counted.arrived += 1;
        counted.all += 1;
        counted.users.insert(user, of_user + 1);
        counted.addresses.insert(address.to_owned(), of_address + 1);
        Ok(())
    }
}

impl Counted {
    /// Frees a connection's place.
    pub fn leave(&mut self, user: &Uuid, address: &String) {
        self.all = self.all.saturating_sub(1);
        leave(&mut self.users, user);
        leave(&mut self.addresses, address);
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
