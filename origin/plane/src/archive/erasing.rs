//! Erased people: their texts and private rows leave the objects, by writing these anew, and leave each month that is restored.
//!
//! The list is in Postgres and beside the objects, so that a database of before learns of it.

use std::collections::HashSet;

use optimist_shared::ids::Uuid;

use crate::archive::csv::mentions;
use crate::archive::objects::{Erased, Store};
use crate::archive::owner::{Outcome, Owner};
use crate::archive::restoring::load;
use crate::archive::running::{Known, Work};
use crate::config::Config;
use crate::hooks;
use crate::months::Month;

/// Rows that one statement looks at.
const AT_ONCE: i32 = 1_000;

/// Puts a person on the list beside the objects.
pub async fn note(config: &Config, erased: Erased) -> Outcome<()> {
    Store::of(config)?.note_erased(erased).await
}

/// The people on the list beside the objects.
pub async fn listed(config: &Config) -> Outcome<Vec<Erased>> {
    Store::of(config)?.erased().await
}

/// Adds the people whom only the store knows.
pub async fn learn_erased(work: &Work<'_>) -> Outcome<()> {
    const ADD: &str = "insert into erased (user_id, keeps_messages) select * from unnest($1::uuid[], $2::boolean[]) on conflict do nothing";
    for some in work.store.erased().await?.chunks(1_000) {
        let (people, kept): (Vec<Uuid>, Vec<bool>) =
            some.iter().map(|erased| (erased.user, erased.keeps_messages)).unzip();
        work.owner.rows(ADD, &[&people, &kept]).await?;
    }
    Ok(())
}

/// A table, and the condition, of its rows as `t` and of a person as `$1`, by which something of the person is left in it.
pub type Condition = (&'static str, &'static str);

/// How many rows meet each condition, in short statements.
pub async fn remainder(config: &Config, conditions: &[Condition], user: Uuid) -> Outcome<Vec<u64>> {
    let owner = Owner::connect(config).await?;
    let mut counts = Vec::new();
    for (table, condition) in conditions {
        let (mut place, mut count): (Option<Vec<String>>, u64) = (None, 0);
        loop {
            const FOUND: &str = "select last, number from found_part($1, $2, $3, $4, $5)";
            let row = owner.row(FOUND, &[table, condition, &place, &AT_ONCE, &user]).await?;
            place = row.get(0);
            if place.is_none() {
                break;
            }
            count += row.get::<_, i64>(1).cast_unsigned();
        }
        counts.push(count);
    }
    Ok(counts)
}

/// Archived months that may hold a person and have not been searched for them since. An archive run searches them.
pub async fn unsearched(config: &Config, user: Uuid) -> Outcome<Vec<String>> {
    const UNSEARCHED: &str = "select a.name, a.nth, to_char(a.month, 'YYYY-MM') from archived a join partitioned p using (name)
        where p.erases is not null and a.state <> 'restored'
          and a.erased < coalesce((select place from erased where user_id = $1), 9223372036854775807) order by a.nth, a.name";
    let rows = Owner::connect(config).await?.rows(UNSEARCHED, &[&user]).await?;
    let may = rows.iter().filter(|row| may_hold(row.get(1), user));
    Ok(may.map(|row| format!("{} {}", row.get::<_, &str>(0), row.get::<_, &str>(2))).collect())
}

/// Removes rows and texts of erased people from a table that is no partition, in one pass in the order of its key.
pub async fn erase_rows(work: &Work<'_>, parent: &str, table: &str) -> Outcome<u64> {
    const ERASES: &str = "select from partitioned where name = $1 and erases is not null";
    if work.owner.rows(ERASES, &[&parent]).await?.is_empty() {
        return Ok(0);
    }
    let mut erased = 0;
    let mut place: Option<Vec<String>> = None;
    loop {
        const ERASE: &str = "select last, changed from erase_part($1, $2, $3, $4)";
        let row = work.owner.row(ERASE, &[&parent, &table, &place, &AT_ONCE]).await?;
        place = row.get(0);
        if place.is_none() {
            return Ok(erased);
        }
        erased += row.get::<_, i64>(1).cast_unsigned();
    }
}

/// Writes the objects anew that hold people who were erased since they were written. Returns how many.
pub async fn erase_from_objects(work: &Work<'_>) -> Outcome<u64> {
    learn_erased(work).await?;
    let newest: i64 = work.owner.row("select coalesce(max(place), 0) from erased", &[]).await?.get(0);
    let mut written = 0;
    let condition = format!("state in ('detached', 'dropped') and erases is not null and erased < {newest}");
    for known in work.known(&condition).await? {
        const NEW: &str = "select user_id from erased e
            where place > (select erased from archived where name = $1 and nth = $2)
              and not (keeps_messages and (select erases like '%keeps_messages%' from partitioned where name = $1))";
        let rows = work.owner.rows(NEW, &[&known.table, &known.nth]).await?;
        let people = rows.iter().map(|row| row.get(0)).filter(|user| may_hold(known.nth, *user));
        let people: HashSet<String> = people.map(|user| user.to_string()).collect();
        // The object is read from end to end.
        if !people.is_empty() && holds(work, &known, &people).await? {
            rewrite(work, &known).await?;
            written += 1;
        }
        // Also what a killed run has left.
        let [current] =
            &work.known(&format!("a.name = '{}' and nth = {}", known.table, known.nth)).await?[..]
        else {
            continue;
        };
        work.store.delete_but(&known.table, &known.month, Some(current.version)).await?;
        const SEARCHED: &str = "update archived set erased = $3 where name = $1 and nth = $2";
        work.owner.rows(SEARCHED, &[&known.table, &known.nth, &newest]).await?;
    }
    Ok(written)
}

/// Whether a month can have rows of a person: not if their id was given later, by a clock that is off by less than a month.
fn may_hold(month: i64, user: Uuid) -> bool {
    Month::of_id(user).plus(-1).number() <= month
}

async fn holds(work: &Work<'_>, known: &Known, people: &HashSet<String>) -> Outcome<bool> {
    let mut reading = work.store.read(&known.object()).await?;
    while let Some((records, _)) = reading.next().await? {
        if mentions(&records, people) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Loads an object, erases, and writes the next version. The detached table goes: it has what is to be erased.
async fn rewrite(work: &Work<'_>, known: &Known) -> Outcome<()> {
    let next = Known { version: known.version + 1, ..known.clone() };
    let table = format!("{}_erasing", known.leaf);
    load(work, known, &table).await?;
    erase_rows(work, &known.table, &table).await?;
    let manifest = work.write(&next, &table).await?;
    hooks::step("archive.rewritten").await;
    work.owner.patiently(&format!("drop table if exists {}", known.leaf), &[]).await?;
    const REWRITTEN: &str = "update archived set version = $3, rows = $4, sha256 = $5, state = 'dropped',
        changed_at = clock_timestamp() where name = $1 and nth = $2";
    let rows = manifest.rows.cast_signed();
    work.owner.rows(REWRITTEN, &[&known.table, &known.nth, &next.version, &rows, &manifest.sha256]).await?;
    work.owner.patiently(&format!("drop table {table}"), &[]).await?;
    tracing::info!(
        table = known.table,
        month = known.month,
        "an archived month was written without the erased"
    );
    Ok(())
}
