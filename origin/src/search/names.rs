//! Candidates among circles and people. Circles are found by names and descriptions, people by their names, if they want to be.

use std::collections::HashSet;

use optimist_plane::error::Result;
use optimist_plane::postgres::replicas::Reader;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::search::place::Place;
use crate::search::query::Query;

/// Candidates of each kind; a statement takes no more.
const CANDIDATES: i64 = 1_000;

statements! {
    const PUBLIC: &str = "-- search::public_circles (1,400 rows, uncapped: entries of the index for a word)
select id, name, description, owner_id from circles
where search_words(name || ' ' || description) @@ $1::text::tsquery and visibility = 'public' and archived_at is null limit $2";

    /// Each is looked up by itself, so that no plan reads all circles.
    const OWN: &str = "-- search::own_circles (500 rows)
select its.* from memberships mine
cross join lateral (select id, name, description, owner_id from circles where id = mine.circle_id limit 1) its
where mine.user_id = $1 and mine.role <> 'banned'";

    const PEOPLE: &str = "-- search::people (2,100 rows, uncapped: entries of the index for a word)
select id, name from users
where search_words(name) @@ $1::text::tsquery and discoverable and status = 'active' limit $2";
}

/// A circle or a person that has what is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    pub place: Place,
    pub id: Uuid,
    /// A circle's.
    pub owner: Option<Uuid>,
}

pub struct Candidates {
    /// In no order.
    pub found: Vec<Named>,
    /// Whether there may be more, which nobody has looked at.
    pub is_truncated: bool,
}

fn is_full(rows: &[Row]) -> bool {
    i64::try_from(rows.len()).is_ok_and(|count| count >= CANDIDATES)
}

/// Among public circles, and those that the searcher is a member of.
pub async fn circles(reader: &mut Reader<'_>, query: &Query, searcher: Uuid) -> Result<Candidates> {
    let public = reader.query(PUBLIC, &[&query.words(), &CANDIDATES]).await?;
    let own = reader.query(OWN, &[&searcher]).await?;
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for row in public.iter().chain(&own) {
        let (id, name, description): (Uuid, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let text = described(name, description);
        if seen.insert(id) && query.matches(&text) {
            // What is in the name says more.
            let weight = query.weight(&text) + query.weight(name);
            found.push(Named { place: Place::by_weight(weight, id), id, owner: Some(row.get(3)) });
        }
    }
    Ok(Candidates { found, is_truncated: is_full(&public) })
}

/// What a circle is found by.
pub fn described(name: &str, description: &str) -> String {
    format!("{name} {description}")
}

pub async fn people(reader: &mut Reader<'_>, query: &Query) -> Result<Candidates> {
    let rows = reader.query(PEOPLE, &[&query.words(), &CANDIDATES]).await?;
    let found = rows.iter().filter_map(|row| {
        let (id, name): (Uuid, &str) = (row.get(0), row.get(1));
        let place = || Place::by_weight(query.weight(name), id);
        query.matches(name).then(|| Named { place: place(), id, owner: None })
    });
    Ok(Candidates { found: found.collect(), is_truncated: is_full(&rows) })
}
