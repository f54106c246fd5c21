//! The months whose notifications people keep.

use std::collections::BTreeSet;

use chrono::{DateTime, Days, NaiveDate, Utc};
use optimist_plane::clock;
use optimist_plane::months::Month;
use optimist_shared::ids::Uuid;

/// How long a notification is kept, read or not: see `CLEAN` in [`super::upkeep`].
const DAYS: u64 = 90;
/// How far the clocks of machines may be apart.
const APART: u64 = 4;

/// The months that may have notifications, from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub oldest: Month,
    pub newest: Month,
}

impl Kept {
    fn at(now: DateTime<Utc>) -> Kept {
        let oldest = Month::of(now - Days::new(DAYS + APART));
        Kept { oldest, newest: Month::of(now + Days::new(APART)) }
    }

    /// Pairs of a first and a last month, two months each, oldest first: what a statement touches at once.
    pub fn stretches(self) -> impl Iterator<Item = (Month, Month)> {
        (0..)
            .map(move |step| self.oldest.plus(2 * step))
            .take_while(move |first| *first <= self.newest)
            .map(|first| (first, first.plus(1)))
    }
}

/// The months of ids, each once: they name the partitions that a statement is about.
pub fn months_of(ids: &[Uuid]) -> Vec<NaiveDate> {
    let months: BTreeSet<Month> = ids.iter().copied().map(Month::of_id).collect();
    months.into_iter().map(Month::first_day).collect()
}

/// As of now.
pub fn kept() -> Kept {
    Kept::at(clock::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_what_is_kept() {
        for day in 0..730 {
            let now = DateTime::UNIX_EPOCH + Days::new(20_000 + day);
            let kept = Kept::at(now);
            let stretches: Vec<_> = kept.stretches().collect();
            assert!(stretches.len() <= 3, "{stretches:?}");
            for days in 0..=90 {
                let month = Month::of(now - Days::new(days));
                let covers = |(first, last): &(Month, Month)| (*first..=*last).contains(&month);
                assert_eq!(stretches.iter().filter(|stretch| covers(stretch)).count(), 1, "{now} {days}");
            }
        }
    }
}
