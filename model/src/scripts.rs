//! The scripts of `shared/src/scripts`, as they act on one key. Each is one atomic step, as in Redis.

use crate::Protocol;
use crate::state::{Copy, Floor, Lease, Redis, Set, Snapshot, Writer};

pub enum Leased {
    Value(Copy),
    Granted,
    /// Fenced, or leased to another.
    Refused,
}

impl Redis {
    /// `lease.lua`
    pub fn lease(&mut self, protocol: &Protocol, holder: u8, epoch: u8) -> Leased {
        if let Some(value) = self.value.filter(|value| value.epoch == epoch) {
            return Leased::Value(value);
        }
        let is_fenced = self.fences != 0 && protocol.leases_respect_fences;
        if is_fenced || self.lease.is_some() {
            return Leased::Refused;
        }
        let knows = self.floor.filter(|floor| !floor.is_ahead || !protocol.leases_mind_replicas);
        self.lease = Some(Lease { holder, knows: knows.map(|floor| floor.writer) });
        Leased::Granted
    }

    /// `fill_core.lua`: `fill.lua`, and `fill_counted.lua`, which only adds keys that need no lease.
    pub fn fill(&mut self, protocol: &Protocol, holder: u8, read: Snapshot, epoch: u8) {
        let lease = self.lease.filter(|lease| lease.holder == holder);
        if lease.is_some() {
            self.lease = None;
        }
        let stands = lease.is_some() || !protocol.fills_need_their_lease;
        let is_blocked = self.fences != 0 && protocol.fills_respect_fences;
        let is_below = self.floor.is_some_and(|floor| {
            let was_there = lease.is_some_and(|lease| lease.knows == Some(floor.writer));
            let is_shown = was_there && (!floor.is_ahead || !protocol.leases_mind_replicas);
            !read.settled.has(floor.writer) && !is_shown
        });
        if stands && !is_blocked && !is_below {
            self.value = Some(Copy { read, epoch });
        }
    }

    /// `fence.lua`
    pub fn fence(&mut self, token: u8) {
        if let Some(value) = self.value.take() {
            self.hidden = Some(value);
        }
        self.lease = None;
        self.fences |= 1 << token;
    }

    /// `release.lua`
    pub fn release(&mut self, token: u8) {
        self.fences &= !(1 << token);
        (self.value, self.hidden, self.lease) = (None, None, None);
    }

    /// `unhide.lua`
    pub fn unhide(&mut self, token: u8) {
        self.fences &= !(1 << token);
        if self.fences == 0
            && let Some(hidden) = self.hidden.take()
        {
            self.value = Some(hidden);
        }
    }

    /// `invalidate.lua`, for a committed writer's transaction.
    pub fn invalidate(&mut self, protocol: &Protocol, writer: u8, writers: &[Writer]) {
        let xid = |writer: u8| writers[usize::from(writer)].xid;
        let leaves_floor = protocol.floors && (self.lease.is_some() || protocol.floors_need_no_lease);
        if leaves_floor {
            // An older one changes the floor too, by a count.
            if let Some(lease) = &mut self.lease {
                lease.knows = lease.knows.filter(|known| *known == writer);
            }
            let newest = self.floor.filter(|floor| xid(floor.writer) > xid(writer));
            let was_ahead = self.floor.is_some_and(|floor| floor.is_ahead);
            self.floor = Some(Floor {
                writer: newest.map_or(writer, |floor| floor.writer),
                is_ahead: was_ahead || protocol.relays_read_replicas,
            });
        }
        self.hidden = None;
        self.value = self.value.filter(|value| value.read.settled.contains(Set::of(writer)));
    }

    /// `vouch.lua`: returns whether it vouched.
    pub fn vouch(&mut self, epoch: u8) -> bool {
        if self.epoch > epoch {
            return false;
        }
        (self.epoch, self.vouch) = (epoch, epoch);
        true
    }

    /// The copy that the edge trusts: one of the vouched epoch.
    pub fn trusted(&self, protocol: &Protocol) -> Option<Copy> {
        self.value.filter(|value| {
            let is_vouched = self.vouch != 0 || !protocol.copies_are_vouched_for;
            is_vouched && (value.epoch == self.vouch || !protocol.copies_carry_epochs)
        })
    }

    /// A fence's time is over. A hidden value lapses with the first fence raised over it, so never after any of them.
    pub fn lapse(&mut self, protocol: &Protocol, token: u8) {
        self.fences &= !(1 << token);
        if protocol.hidden_copies_lapse {
            self.hidden = None;
        }
    }
}
