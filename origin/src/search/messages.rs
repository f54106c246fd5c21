//! Candidates among messages: the newest thousand that have the words, of circles that the searcher may read.
//!
//! A word may be in most messages there are. So a statement takes no more matches than it can afford. If there are more in its
//! span, a shorter one is asked for: the index knows to some hours when a message was posted.

use chrono::TimeDelta;
use optimist_plane::clock;
use optimist_plane::error::Result;
use optimist_plane::months::Month;
use optimist_plane::postgres::replicas::Reader;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::search::place::Place;
use crate::search::query::{Author, Query};

/// Candidates that are ranked.
pub const CANDIDATES: usize = 1_000;
/// Matches that a statement takes.
const MATCHES: i64 = 2_000;
/// The same where whole texts are read, to see whether words follow each other: 4 million characters at most.
const WHOLE_MATCHES: i64 = 500;
/// Characters of a text that say how much it is about what is looked for. Most messages are shorter.
const JUDGED: i32 = 400;
const WHOLE: i32 = 8_000;
/// Months that are searched: as many as stay in Postgres where there is an archive.
const MONTHS: i32 = 24;
/// Statements of a search. Words that are rare take one for two months; frequent ones find enough in fewer.
const STATEMENTS_A_SEARCH: usize = 20;
/// Bits of an id's time that are left out of the index's: 2^24 ms, some 280 minutes. Of a coarse one four more, some three days.
const FINE: u32 = 80 + 24;
const COARSE: u32 = FINE + 4;

statements! {
    /// How many messages of the ids from `$4` to before `$5` match, up to `$6`; and the newest of those that the person `$3`, a
    /// member of the circles `$2`, may read and has not blocked the author of. If there may be more matches than that, none is shown unless `$7`.
    const MATCHING: &str = "-- search::messages, planned anew (15,000 rows, uncapped: entries of the index for a word, of two months)
with matching as materialized (
    select id, circle_id, author_id, body from messages
    where message_words(circle_id, author_id, id, body) @@ $1::text::tsquery and deleted_at is null and id >= $4 and id < $5 limit $6),
readable as materialized (
    select named.circle_id from (select distinct circle_id from matching) named
    where named.circle_id = any($2) or exists (
        select from circles c where c.id = named.circle_id and c.visibility = 'public' and c.archived_at is null
          and not exists (select from memberships where circle_id = c.id and user_id = $3 and role = 'banned') offset 0))
select counted.matches, shown.id, shown.circle_id, shown.author_id, shown.body
from (select count(*) as matches from matching) counted
left join lateral (
    select id, circle_id, author_id, left(body, $8) as body from matching
    where (counted.matches < $6 or $7) and circle_id in (select circle_id from readable)
      and author_id <> all (array(select blocked_id from blocks where user_id = $3))
    order by id desc limit 1000) shown on true";

    /// A person's circles; nobody has more than 500.
    const MINE: &str = "-- search::mine (500 rows)
select circle_id from memberships where user_id = $1 and role <> 'banned'";
}

/// A message that has what is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub place: Place,
    pub circle: Uuid,
    pub author: Uuid,
    pub message: Uuid,
}

pub struct Candidates {
    /// In no order.
    pub found: Vec<Found>,
    /// Whether there may be more, which nobody has looked at.
    pub is_truncated: bool,
}

/// The lengths of spans, the longest first.
const LENGTHS: &[Length] =
    &[Length::Months, Length::Coarse(4), Length::Coarse(1), Length::Fine(4), Length::Fine(1)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// A month and the one before it.
    Months,
    /// So many slices.
    Coarse(u128),
    Fine(u128),
}

/// Ids that a statement looks at, of two months at most, and what the index calls them.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    from: Uuid,
    to: Uuid,
    tags: Vec<String>,
}

impl Span {
    fn before(to: Uuid, length: Length) -> Span {
        let last = to.as_u128().saturating_sub(1);
        let begin = Month::of_id(Uuid::from_u128(last)).plus(-1).first_id();
        let sliced = |bits: u32, count: u128, tag: fn(u128) -> String| {
            let newest = last >> bits;
            let oldest = newest.saturating_sub(count - 1);
            (oldest << bits, (oldest..=newest).map(tag).collect())
        };
        let (first, tags) = match length {
            Length::Months => (0, Vec::new()),
            Length::Coarse(count) => sliced(COARSE, count, |slice| format!("'#t{slice:05x}':*")),
            Length::Fine(count) => sliced(FINE, count, |slice| format!("'#t{slice:06x}'")),
        };
        Span { from: begin.max(Uuid::from_u128(first)), to, tags }
    }

    /// The text search for what is sought in this span.
    fn sought(&self, words: &str) -> String {
        match self.tags.is_empty() {
            true => words.to_owned(),
            false => format!("{words} & ({})", self.tags.join(" | ")),
        }
    }
}

/// The text search of a query: its words, and whose messages they are in, and where.
fn words(query: &Query, searcher: Uuid) -> String {
    let author = query.from.map(|author| match author {
        Author::Me => searcher,
        Author::Person(person) => person,
    });
    let mut words = query.words();
    words.extend(author.map(|person| format!(" & '#a{person}'")));
    words.extend(query.within.map(|circle| format!(" & '#c{circle}'")));
    words
}

pub async fn candidates(reader: &mut Reader<'_>, query: &Query, searcher: Uuid) -> Result<Candidates> {
    let rows = reader.query(MINE, &[&searcher]).await?;
    let mine: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let words = words(query, searcher);
    let (most, length) = match query.has_phrases() {
        true => (WHOLE_MATCHES, WHOLE),
        false => (MATCHES, JUDGED),
    };
    // Clocks differ, but not by an hour.
    let now = clock::now() + TimeDelta::hours(1);
    let mut to = Uuid::from_u128(u128::from(now.timestamp_millis().max(0).cast_unsigned()) << 80);
    let oldest = Month::of(now).plus(1 - MONTHS).first_id();
    let (mut found, mut is_truncated, mut nth) = (Vec::new(), false, 0);
    for _ in 0..STATEMENTS_A_SEARCH {
        if to <= oldest || found.len() >= CANDIDATES {
            break;
        }
        let Some(length_of_span) = LENGTHS.get(nth) else { break };
        let is_shortest = nth + 1 == LENGTHS.len();
        let span = Span::before(to, *length_of_span);
        let sought = span.sought(&words);
        let rows = reader
            .query(MATCHING, &[&sought, &mine, &searcher, &span.from, &span.to, &most, &is_shortest, &length])
            .await?;
        let matches: i64 = rows.first().map_or(0, |row| row.get(0));
        if matches >= most && !is_shortest {
            nth += 1;
            continue;
        }
        is_truncated |= matches >= most;
        for row in rows.iter().filter(|row| row.get::<_, Option<Uuid>>(1).is_some()) {
            let (message, body): (Uuid, &str) = (row.get(1), row.get(4));
            if !query.has_phrases() || query.matches(body) {
                let place = Place::in_time(query.weight(body), message);
                found.push(Found { place, circle: row.get(2), author: row.get(3), message });
            }
        }
        to = span.from;
        // A longer span would hold too many again.
        if matches < most / 8 {
            nth = nth.saturating_sub(1);
        }
    }
    is_truncated |= to > oldest;
    // Each statement's are newer than the next one's, and come with the newest first.
    is_truncated |= found.len() > CANDIDATES;
    found.truncate(CANDIDATES);
    Ok(Candidates { found, is_truncated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(hex: &str) -> Uuid {
        Uuid::parse_str(&format!("{hex:0<32}")).unwrap()
    }

    #[test]
    fn spans_follow_each_other_and_stay_in_two_months() {
        // The first of December 2025.
        let to = id("019ad7358400");
        let months = Span::before(to, Length::Months);
        assert_eq!(Month::of_id(months.from).plus(2).first_id(), to);
        assert_eq!(months.sought("'x'"), "'x'");
        let coarse = Span::before(to, Length::Coarse(2));
        assert_eq!(
            (coarse.from, coarse.tags.as_slice()),
            (id("019ac"), ["'#t019ac':*".to_owned(), "'#t019ad':*".to_owned()].as_slice())
        );
        let fine = Span::before(to, Length::Fine(1));
        assert_eq!((fine.from, fine.sought("'x'").as_str()), (id("019ad7"), "'x' & ('#t019ad7')"));
        let before = Span::before(fine.from, Length::Fine(1));
        assert_eq!(
            (before.from, before.to, before.tags.as_slice()),
            (id("019ad6"), id("019ad7"), ["'#t019ad6'".to_owned()].as_slice())
        );
        // It ends with the months, wherever its slice does.
        let long = Span::before(to, Length::Coarse(100));
        assert_eq!(long.from, months.from);
    }

    #[test]
    fn tags_are_no_words() {
        let person = Uuid::from_u128(7);
        let query = Query::parse(&format!("Rain -snow from:me in:{person}")).unwrap();
        assert_eq!(words(&query, person), format!("'rain' & !'snow' & '#a{person}' & '#c{person}'"));
    }
}
