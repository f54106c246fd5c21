//! A key that a write makes stale, with the names of its companions.

use optimist_shared::keys::{BoundKey, Companions};

use crate::hooks;

/// A lease that nobody holds, for when a test has switched off the effect of writers or the relay on leases.
const NO_LEASE: &str = "lease:none";

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
        let beside = unless_disabled("lease", Companions::of(&name));
        TouchedKey { key, name, beside }
    }
}

/// Replaces the lease by one that nobody holds if a test has switched the mechanism off: real leases stay as they are.
pub fn unless_disabled(mechanism: &'static str, mut beside: Companions) -> Companions {
    if hooks::disabled(mechanism) {
        NO_LEASE.clone_into(&mut beside.lease);
    }
    beside
}
