//! A key that a write makes stale, with the names of its companions.

use optimist_shared::keys::{BoundKey, Companions};

use crate::hooks;

/// A lease that nobody holds, for when a test has switched off the effect of writers on leases.
const NO_LEASE: &str = "lease:none";
/// A floor that no fill asks for, for when a test has switched floors off.
const NO_FLOOR: &str = "floor:none";

/// A key that a write changes.
#[derive(Clone, Debug)]
pub struct TouchedKey {
    pub key: BoundKey,
    pub name: String,
    pub beside: Companions,
}

impl TouchedKey {
    pub fn new(key: BoundKey) -> TouchedKey {
        let name = key.name();
        let mut beside = Companions::of(&name);
        if hooks::disabled("lease") {
            NO_LEASE.clone_into(&mut beside.lease);
        }
        TouchedKey { key, name, beside }
    }
}

/// The companions at which the relay leaves its floor.
pub fn with_floor(name: &str) -> Companions {
    let mut beside = Companions::of(name);
    if hooks::disabled("floor") {
        NO_FLOOR.clone_into(&mut beside.floor);
    }
    beside
}
