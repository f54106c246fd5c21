//! The scripts of `shared/src/scripts`, as they act on one key. Each is one atomic step, as in Redis.

use crate::Protocol;
use crate::state::{Copy, Lease, Redis, Set, Snapshot, Writer};

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
        self.lease = Some(Lease { holder });
        Leased::Granted
    }

    /// `fill.lua`
    pub fn fill(&mut self, protocol: &Protocol, holder: u8, read: Snapshot, epoch: u8) {
        let lease = self.lease.filter(|lease| lease.holder == holder);
        if lease.is_some() {
            self.lease = None;
        }
        let stands = lease.is_some() || !protocol.fills_need_their_lease;
        let is_blocked = self.fences != 0 && protocol.fills_respect_fences;
        let is_below = self.floor.is_some_and(|writer| !read.settled.has(writer));
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
        if leaves_floor && self.floor.is_none_or(|floor| xid(floor) < xid(writer)) {
            self.floor = Some(writer);
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
