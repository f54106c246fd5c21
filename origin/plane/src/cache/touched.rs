//! A key that a write makes stale, with the names of its companions.

use optimist_shared::keys::{self, Key, Parameters};

use crate::hooks;

/// A lease that nobody holds, for when a test has switched off what writers or the relay do to leases.
pub const NO_LEASE: &str = "lease:none";

/// A key that a write changes.
#[derive(Clone, Debug)]
pub struct TouchedKey {
    pub key: Key,
    pub parameters: Parameters,
    pub name: String,
    hidden: String,
    fence: String,
    lease: String,
}

impl TouchedKey {
    pub fn new(key: Key, parameters: Parameters) -> Option<TouchedKey> {
        let name = key.render(&parameters)?;
        let (hidden, fence, lease) = (keys::hidden(&name), keys::fence(&name), keys::lease(&name));
        Some(TouchedKey { key, parameters, name, hidden, fence, lease })
    }

    /// The key and its companions, as the writers' scripts take them.
    pub fn writer_keys(&self) -> Vec<&str> {
        // Switched off: nobody's lease is voided.
        let lease = if hooks::disabled("lease") { NO_LEASE } else { &self.lease };
        vec![&self.name, &self.hidden, &self.fence, lease]
    }
}
