//! Stretches of a circle's history: what one statement reads of it, at most two months.

use chrono::NaiveDate;
use optimist_plane::months::Month;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

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

/// What a page may reach: the months that are there, and those that are archived.
#[derive(Debug, Default)]
pub struct Reach {
    /// Where the page begins. `None` before anything was read.
    pub start: Option<Uuid>,
    is_forwards: bool,
    /// The circle's months that are not archived, in order.
    pub months: Vec<NaiveDate>,
    archived: Vec<Month>,
    /// Those of the circle's months that are about to be archived.
    closed: Vec<Month>,
}

impl Reach {
    /// Of a page that begins with this stretch, from its row: a circle's `months`, and all that are `archived` or `closed`.
    pub fn from_row(first: &Stretch, row: &Row) -> Reach {
        let days = |name| row.get::<_, Option<Vec<NaiveDate>>>(name).unwrap_or_default();
        Reach::of(first, days("months"), &days("archived"), &days("closed"))
    }

    fn of(first: &Stretch, months: Vec<NaiveDate>, archived: &[NaiveDate], closed: &[NaiveDate]) -> Reach {
        let (gone, months): (Vec<NaiveDate>, _) =
            months.into_iter().partition(|month| archived.contains(month));
        let archived = gone.into_iter().map(Month::of_day).collect();
        let closed =
            months.iter().filter(|month| closed.contains(month)).copied().map(Month::of_day).collect();
        Reach { start: Some(first.from), is_forwards: first.is_forwards, months, archived, closed }
    }

    /// The month after the newest archived one that a page passes. It ends with the id `last`, or goes on to the end.
    pub fn archived_before(&self, last: Option<Uuid>) -> Option<Month> {
        let passed = self.archived.iter().filter(|month| self.passes(**month, last));
        passed.max().map(|month| month.plus(1))
    }

    /// Whether such a page passes a month that is about to be archived.
    pub fn is_leaving(&self, last: Option<Uuid>) -> bool {
        self.closed.iter().any(|month| self.passes(*month, last))
    }

    fn passes(&self, month: Month, last: Option<Uuid>) -> bool {
        let Some(start) = self.start else { return false };
        let (begin, end) = (month.first_id(), month.plus(1).first_id());
        match self.is_forwards {
            true => end > start && last.is_none_or(|last| begin < last),
            false => begin < start && last.is_none_or(|last| end > last),
        }
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
    fn a_page_tells_of_the_newest_archived_month_that_it_passes() {
        let months = [day(2025, 2), day(2025, 6), day(2026, 3), day(2026, 4)];
        let archived = [day(2025, 1), day(2025, 2), day(2025, 6)];
        let before = |id| Reach::of(&Stretch::before(id), months.to_vec(), &archived, &[day(2026, 3)]);
        let after = |id| Reach::of(&Stretch::after(id), months.to_vec(), &archived, &[day(2026, 3)]);
        let month = |year, month| Some(Month::of_day(day(year, month)));
        assert_eq!(before(first(2026, 5)).months, [day(2026, 3), day(2026, 4)]);
        assert_eq!(before(first(2026, 5)).archived_before(None), month(2025, 7));
        assert!(
            before(first(2026, 5)).is_leaving(None)
                && !before(first(2026, 5)).is_leaving(Some(first(2026, 4)))
        );
        assert_eq!(
            before(first(2026, 5)).archived_before(Some(first(2026, 3))),
            None,
            "it does not reach so far"
        );
        assert_eq!(before(first(2025, 6)).archived_before(None), month(2025, 3), "and so a client goes on");
        assert_eq!(after(Uuid::nil()).archived_before(Some(first(2026, 4))), month(2025, 7));
        assert_eq!(after(first(2026, 3)).archived_before(None), None);
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
