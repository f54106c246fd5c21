//! Reduces the number of states without changing their futures: drops state that can no longer lead to an answer, and
//! merges states that differ only in the numbering of parties.
//!
//! Both rest on rules of the protocol (a fill needs its lease, a copy its epoch). A search without one of these rules
//! must tell states apart by everything.

use crate::state::{ATTEMPTS, READERS, Reading, Set, Snapshot, State};

impl State {
    pub fn forget(mut self) -> State {
        self.forget_readers();
        self.forget_epochs();
        self
    }

    fn forget_readers(&mut self) {
        let holder = self.redis.lease.map(|lease| usize::from(lease.holder));
        for (number, reading) in self.readers.iter_mut().enumerate() {
            let is_idle = match reading {
                // Its fill will be refused, since no lease is given twice.
                Reading::Leased { .. } | Reading::Loaded { .. } => holder != Some(number),
                // It accepts any answer.
                Reading::Checked { required, .. } => required.is_empty(),
                Reading::Idle => false,
            };
            if is_idle {
                *reading = Reading::Idle;
            }
        }
    }

    /// Drops copies of epochs that nobody will trust any more, and the readers that can only make such copies. Within a
    /// restart's five seconds any answer is accepted, so vouching from before the restart can be dropped with it.
    fn forget_epochs(&mut self) {
        let checked = self.readers.iter().filter_map(|reading| match reading {
            Reading::Checked { epoch, .. } => Some(*epoch),
            _ => None,
        });
        let vouched = Some(self.redis.vouch).filter(|epoch| *epoch != 0);
        let trusted = checked.chain(vouched).chain(self.told()).chain(self.relay);
        let trusted = trusted.filter(|epoch| *epoch > self.shaken);
        let to_come = self.region.epoch.max(self.shaken + 1);
        let first = trusted.fold(to_come, u8::min);
        for copy in [&mut self.redis.value, &mut self.redis.hidden] {
            copy.take_if(|copy| copy.epoch < first);
        }
        for reading in &mut self.readers {
            if reading.epoch().is_some_and(|epoch| epoch < first) {
                *reading = Reading::Idle;
            }
        }
        if self.redis.vouch < first {
            self.redis.vouch = 0;
        }
        self.relay.take_if(|epoch| *epoch < first);
        self.told &= !((1 << first) - 1);
        // Nothing below the row's epoch will be vouched for, so nothing needs to be refused.
        (self.shaken, self.redis.epoch) = (0, 0);
    }

    /// Numbers epochs from the first that matters, and puts interchangeable parties in a fixed order.
    pub fn merge_alike(mut self) -> State {
        self.count_epochs_anew();
        let mut other = self.clone();
        other.swap_writers();
        self.sort_readers().min(other.sort_readers())
    }

    fn count_epochs_anew(&mut self) {
        let copies = [self.redis.value, self.redis.hidden].into_iter().flatten().map(|copy| copy.epoch);
        let readers = self.readers.iter().filter_map(Reading::epoch);
        let vouched = Some(self.redis.vouch).filter(|epoch| *epoch != 0);
        let all = copies.chain(readers).chain(vouched).chain(self.told()).chain(self.relay);
        let fewer = all.fold(self.region.epoch, u8::min).saturating_sub(1);
        let copies = [&mut self.redis.value, &mut self.redis.hidden].into_iter().flatten();
        copies.for_each(|copy| copy.epoch -= fewer);
        self.readers.iter_mut().filter_map(Reading::epoch_mut).for_each(|epoch| *epoch -= fewer);
        self.redis.vouch = self.redis.vouch.saturating_sub(fewer);
        self.region.epoch -= fewer;
        self.relay.iter_mut().for_each(|epoch| *epoch -= fewer);
        self.told >>= fewer;
    }

    fn sort_readers(mut self) -> State {
        let holder = self.redis.lease.map(|lease| lease.holder);
        let mut order: [u8; READERS] = std::array::from_fn(|index| index as u8);
        order.sort_unstable_by_key(|reader| (self.readers[usize::from(*reader)], holder != Some(*reader)));
        self.readers = order.map(|reader| self.readers[usize::from(reader)]);
        if let Some(lease) = &mut self.redis.lease {
            let place = order.iter().position(|reader| *reader == lease.holder);
            lease.holder = place.unwrap_or_default() as u8;
        }
        self
    }

    fn swap_writers(&mut self) {
        self.writers.swap(0, 1);
        let swap = |set: &mut Set| set.0 = (set.0 & 1) << 1 | set.0 >> 1;
        let swap_read = |read: &mut Snapshot| {
            swap(&mut read.has);
            swap(&mut read.settled);
        };
        [&mut self.committed, &mut self.known, &mut self.bare].into_iter().for_each(swap);
        self.missed.iter_mut().for_each(|copy| swap_read(&mut copy.read));
        for copy in [&mut self.redis.value, &mut self.redis.hidden].into_iter().flatten() {
            swap_read(&mut copy.read);
        }
        // Two bits each, one per attempt.
        let fences = self.redis.fences;
        self.redis.fences = (fences & ((1 << ATTEMPTS) - 1)) << ATTEMPTS | fences >> ATTEMPTS;
        if let Some(floor) = &mut self.redis.floor {
            floor.writer = 1 - floor.writer;
        }
        if let Some(lease) = &mut self.redis.lease {
            lease.knows = lease.knows.map(|writer| 1 - writer);
        }
        for reading in &mut self.readers {
            match reading {
                Reading::Checked { required, .. } => swap(required),
                Reading::Loaded { read, .. } => swap_read(read),
                Reading::Idle | Reading::Leased { .. } => {}
            }
        }
    }
}
