//! Months, by UTC: the pieces of time that tables are partitioned by.
//!
//! They do not say which partitions exist: Postgres knows that.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use optimist_shared::ids::Uuid;

/// A month, by UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    /// Months since January of the year 0.
    number: i32,
}

impl Month {
    pub fn of_day(day: NaiveDate) -> Month {
        Month { number: day.year() * 12 + day.month0().cast_signed() }
    }

    pub fn of(time: DateTime<Utc>) -> Month {
        Month::of_day(time.date_naive())
    }

    /// The month in which a UUIDv7 was given. (No id's milliseconds are beyond what a time can be.)
    pub fn of_id(id: Uuid) -> Month {
        Month::of(DateTime::from_timestamp_millis(milliseconds(id)).unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    /// As Postgres numbers partitions.
    pub fn number(self) -> i64 {
        i64::from(self.number)
    }

    /// From a text like `2026-05`.
    pub fn parse(text: &str) -> Option<Month> {
        let day = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()?;
        (text.len() == 7).then(|| Month::of_day(day))
    }

    pub fn plus(self, months: i32) -> Month {
        Month { number: self.number + months }
    }

    pub fn begins(self) -> DateTime<Utc> {
        self.first_day().and_time(NaiveTime::MIN).and_utc()
    }

    pub fn first_day(self) -> NaiveDate {
        let month0 = self.number.rem_euclid(12).cast_unsigned();
        NaiveDate::from_ymd_opt(self.number.div_euclid(12), month0 + 1, 1).unwrap_or(NaiveDate::MAX)
    }

    /// Sorts before every UUIDv7 that is given in the month or later, and after the earlier ones.
    pub fn first_id(self) -> Uuid {
        let begin = self.first_day().and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
        Uuid::from_u128(u128::from(begin.timestamp_millis().max(0).cast_unsigned()) << 80)
    }
}

/// A UUIDv7's time, in milliseconds since the Unix epoch: 48 bits.
fn milliseconds(id: Uuid) -> i64 {
    let (most, _) = id.as_u64_pair();
    (most >> 16).cast_signed()
}

/// The spans that the SQL function `in_spans` takes.
const SPANS: usize = 4;

/// The spans that ids are in: the first and last id of each month, the newest last, and nothing for spans that there are not. The
/// months before the newest three are one. A statement about thousands of ids names their partitions by these few, since Postgres
/// plans for a long array by going through it again and again.
pub fn spans(ids: &[Uuid]) -> Vec<Option<Uuid>> {
    let mut months: BTreeMap<Month, [Uuid; 2]> = BTreeMap::new();
    for id in ids.iter().copied() {
        let [first, last] = months.entry(Month::of_id(id)).or_insert([id, id]);
        (*first, *last) = ((*first).min(id), (*last).max(id));
    }
    let mut spans: Vec<[Uuid; 2]> = months.into_values().collect();
    let older = spans.len().saturating_sub(SPANS - 1);
    if older > 1 {
        let ends = [spans[0][0], spans[older - 1][1]];
        spans.splice(..older, [ends]);
    }
    let mut ends: Vec<Option<Uuid>> = spans.into_iter().flatten().map(Some).collect();
    ends.resize(2 * SPANS, None);
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_in_the_month_of_its_milliseconds() {
        let month = Month::of_day(NaiveDate::from_ymd_opt(2026, 12, 31).unwrap());
        assert_eq!(month.first_day(), NaiveDate::from_ymd_opt(2026, 12, 1).unwrap());
        assert_eq!(
            (Month::parse("2026-12"), Month::parse("2026-13"), Month::parse("26-12")),
            (Some(month), None, None)
        );
        assert_eq!(month.plus(1).first_day(), NaiveDate::from_ymd_opt(2027, 1, 1).unwrap());
        assert_eq!(Month::of_id(month.first_id()), month);
        let before = Uuid::from_u128(month.plus(1).first_id().as_u128() - 1);
        assert_eq!(Month::of_id(before), month);
        // As Postgres has it: `id_least('2026-12-01')`.
        assert_eq!(month.first_id().to_string(), "01a22ee6-b000-0000-0000-000000000000");
        assert!(Month::of_id(Uuid::max()) > month);
    }

    #[test]
    fn spans_hold_all_ids_and_few_others() {
        let month = Month::parse("2026-03").unwrap();
        let id = |months: i32, nth: u128| Uuid::from_u128(month.plus(months).first_id().as_u128() + nth);
        let ends = |ends: &[(i32, u128)]| -> Vec<Option<Uuid>> {
            let ids = ends.iter().map(|(months, nth)| Some(id(*months, *nth)));
            ids.chain(std::iter::repeat(None)).take(2 * SPANS).collect()
        };
        assert_eq!(spans(&[]), ends(&[]));
        assert_eq!(spans(&[id(0, 7)]), ends(&[(0, 7), (0, 7)]));
        assert_eq!(spans(&[id(1, 2), id(0, 9), id(1, 5), id(0, 3)]), ends(&[(0, 3), (0, 9), (1, 2), (1, 5)]));
        let many: Vec<Uuid> = (0..6).flat_map(|months| [id(months, 1), id(months, 8)]).collect();
        let of_many = [(0, 1), (2, 8), (3, 1), (3, 8), (4, 1), (4, 8), (5, 1), (5, 8)];
        assert_eq!(spans(&many), ends(&of_many));
    }
}
