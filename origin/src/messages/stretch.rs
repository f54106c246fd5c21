//! Stretches of a circle's history: what one statement reads of it, at most two months.

use chrono::NaiveDate;
use optimist_plane::months::Month;
use optimist_shared::ids::Uuid;

/// Ids between two ends, in the direction in which a page goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Without it.
    pub from: Uuid,
    /// Backwards, the last id of the stretch; forwards, the first one after it.
    pub to: Uuid,
    pub is_forwards: bool,
}

impl Stretch {
    /// The ids before this one, back to the beginning of the month before.
    pub fn before(id: Uuid) -> Stretch {
        Stretch { from: id, to: last_month(id).plus(-1).first_id(), is_forwards: false }
    }

    /// The ids after this one, to the end of the month that follows.
    pub fn after(id: Uuid) -> Stretch {
        Stretch { from: id, to: Month::of_id(id).plus(2).first_id(), is_forwards: true }
    }

    /// The next stretch of these months, which are in order. `None` if there is none.
    pub fn next(&self, months: &[NaiveDate]) -> Option<Stretch> {
        let mut months = months.iter().map(|day| Month::of_day(*day));
        if self.is_forwards {
            let month = months.find(|month| month.first_id() >= self.to)?;
            // Without the id itself: none is the first of a month.
            return Some(Stretch { from: month.first_id(), to: month.plus(2).first_id(), is_forwards: true });
        }
        let month = months.rfind(|month| month.first_id() < self.to)?;
        Some(Stretch::before(month.plus(1).first_id()))
    }
}

/// The month of the last id before this one.
fn last_month(id: Uuid) -> Month {
    Month::of_id(Uuid::from_u128(id.as_u128().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32, month: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, 1).unwrap()
    }

    fn first(year: i32, month: u32) -> Uuid {
        Month::of_day(day(year, month)).first_id()
    }

    #[test]
    fn a_history_is_read_two_months_at_a_time() {
        let months = [day(2025, 2), day(2026, 1), day(2026, 3), day(2026, 4)];
        let newest = Stretch::before(first(2026, 5));
        assert_eq!(newest.to, first(2026, 3));
        let older = newest.next(&months).unwrap();
        assert_eq!((older.from, older.to), (first(2026, 2), first(2025, 12)));
        let oldest = older.next(&months).unwrap();
        assert_eq!((oldest.from, oldest.to), (first(2025, 3), first(2025, 1)));
        assert_eq!(oldest.next(&months), None);

        let all = Stretch::after(Uuid::nil()).next(&months).unwrap();
        assert_eq!((all.from, all.to), (first(2025, 2), first(2025, 4)));
        let later = all.next(&months).unwrap();
        assert_eq!((later.from, later.to), (first(2026, 1), first(2026, 3)));
        let last = later.next(&months).unwrap();
        assert_eq!((last.from, last.to), (first(2026, 3), first(2026, 5)));
        assert_eq!(last.next(&months), None);
    }
}
