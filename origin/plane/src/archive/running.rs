//! Archives months: those that a run was killed over, those that are old enough, or the one that is asked for.
//!
//! The steps of a month: close it; copy each of its tables to an object, read that back and compare; let its rows leave what is
//! counted of them; detach its partitions; a week later drop them.

use tokio_postgres::Row;

use crate::archive::erasing;
use crate::archive::objects::{Manifest, Store, name};
use crate::archive::owner::{Outcome, Owner, Trouble};
use crate::config::Config;
use crate::hooks;
use crate::months::Month;

/// A table's month, as the archive knows it.
#[derive(Clone, Debug)]
pub struct Known {
    pub table: String,
    pub nth: i64,
    /// Like `2026-05`.
    pub month: String,
    pub state: String,
    pub version: i32,
    pub rows: Option<i64>,
    pub sha256: Option<String>,
    pub leaf: String,
}

impl Known {
    fn of(row: &Row) -> Known {
        Known {
            table: row.get("name"),
            nth: row.get("nth"),
            month: row.get("label"),
            state: row.get("state"),
            version: row.get("version"),
            rows: row.get("rows"),
            sha256: row.get("sha256"),
            leaf: row.get("leaf"),
        }
    }

    pub fn object(&self) -> String {
        name(&self.table, &self.month, self.version)
    }
}

/// What archives: the connection, the store, and the ages.
pub struct Work<'a> {
    pub owner: Owner,
    pub store: Store,
    pub config: &'a Config,
}

impl Work<'_> {
    /// `None` while another process works on the archive.
    pub async fn begin(config: &Config) -> Outcome<Option<Work<'_>>> {
        let store = Store::of(config)?;
        let owner = Owner::connect(config).await?;
        let is_alone = owner.is_alone().await?;
        Ok(is_alone.then_some(Work { owner, store, config }))
    }

    /// The months that the archive knows, those of a table first that others go with.
    pub async fn known(&self, condition: &str) -> Outcome<Vec<Known>> {
        let sql = format!(
            "select a.*, to_char(month, 'YYYY-MM') as label, leaf_name(a.name, nth) as leaf
             from archived a join partitioned p using (name) where {condition}
             order by nth, p.goes_with, a.name <> p.goes_with, a.name"
        );
        Ok(self.owner.rows(&sql, &[]).await?.iter().map(Known::of).collect())
    }

    /// The tables of a month.
    pub async fn group(&self, lead: &str, nth: i64) -> Outcome<Vec<Known>> {
        self.known(&format!("p.goes_with = '{lead}' and nth = {nth}")).await
    }

    pub async fn note(&self, known: &Known, state: &str) -> Outcome<()> {
        const NOTE: &str =
            "update archived set state = $3, changed_at = clock_timestamp() where name = $1 and nth = $2";
        self.owner.rows(NOTE, &[&known.table, &known.nth, &state]).await.map(drop)
    }

    /// Copies a table to an object, writes its manifest, and reads both back.
    pub async fn write(&self, known: &Known, table: &str) -> Outcome<Manifest> {
        let columns = self.owner.columns(table).await?;
        let object = known.object();
        let mut writing = self.store.write(&object)?;
        self.owner.copy_out(table, &columns, &mut writing).await?;
        let (rows, sha256) = writing.finish().await?;
        hooks::step("archive.written").await;
        const ABOUT: &str = "select (select max(version) from refinery_schema_history),
            leaf_begin(cut, $2), leaf_begin(cut, $2 + 1) from partitioned where name = $1";
        let about = self.owner.row(ABOUT, &[&known.table, &known.nth]).await?;
        let manifest = Manifest {
            table: known.table.clone(),
            month: known.month.clone(),
            rows,
            sha256,
            schema: about.get(0),
            columns,
            from: about.get(1),
            to: about.get(2),
        };
        self.store.put_manifest(&object, &manifest).await?;
        hooks::step("archive.described").await;
        match self.store.check(&object).await? == manifest {
            true => Ok(manifest),
            false => Err(Trouble(format!("{object} is another one than was written"))),
        }
    }

    /// Archives the month of a table and of those that go with it.
    async fn archive(&self, lead: &str, nth: i64) -> Outcome<u64> {
        self.owner.patiently("select close_month($1, $2)", &[&lead, &nth]).await?;
        hooks::step("archive.closed").await;
        for known in self.group(lead, nth).await?.iter().filter(|known| known.state == "closed") {
            let manifest = self.write(known, &known.leaf).await?;
            hooks::step("archive.compared").await;
            const WRITTEN: &str = "update archived set state = 'written', changed_at = clock_timestamp(), rows = $3, sha256 = $4,
                erased = 0 where name = $1 and nth = $2 and state = 'closed'";
            let rows = manifest.rows.cast_signed();
            self.owner.rows(WRITTEN, &[&known.table, &known.nth, &rows, &manifest.sha256]).await?;
            // What the month was before it was restored.
            self.store.delete_but(&known.table, &known.month, Some(known.version)).await?;
        }
        let group = self.group(lead, nth).await?;
        if group.is_empty() {
            return Err(Trouble(format!("{lead} has no such month")));
        }
        if group.iter().any(|known| known.state == "written") {
            const LEAVE: &str =
                "update archived a set state = 'leaving', changed_at = clock_timestamp() from partitioned p
                where p.name = a.name and p.goes_with = $1 and a.nth = $2 and a.state = 'written' and not exists (
                    select from archived w join partitioned l on l.name = w.name
                    where l.goes_with = $1 and w.nth = $2 and w.state = 'written' and $3
                      and w.changed_at + l.lapse > clock_timestamp())
                returning 1";
            if self.owner.rows(LEAVE, &[&lead, &nth, &!hooks::disabled("lapse")]).await?.is_empty() {
                tracing::info!(
                    table = lead,
                    nth,
                    "a month is written, and leaves once no copy of its rows is left"
                );
            }
            hooks::step("archive.leaving").await;
        }
        let mut detached = 0;
        // That which others go with first: nobody adds to theirs for a row that is gone.
        for known in self.group(lead, nth).await?.iter().filter(|known| known.state == "leaving") {
            self.leave(known).await?;
            self.owner.detach(&known.table, &known.leaf).await?;
            hooks::step("archive.detached").await;
            self.note(known, "detached").await?;
            tracing::info!(
                table = known.table,
                month = known.month,
                rows = known.rows,
                "a month is archived"
            );
            detached += 1;
        }
        Ok(detached)
    }

    /// Removes a month's rows with what is counted of them, if its table has such.
    async fn leave(&self, known: &Known) -> Outcome<()> {
        let row = self.owner.row("select leaving from partitioned where name = $1", &[&known.table]).await?;
        let Some(leaving) = row.get::<_, Option<String>>(0) else { return Ok(()) };
        let sql = format!("select {leaving}($1, 1000)");
        while self.owner.patiently(&sql, &[&known.leaf]).await? > 0 {
            hooks::step("archive.left").await;
        }
        Ok(())
    }

    /// The months that are old enough, and those that a run was killed over.
    async fn due(&self) -> Outcome<Vec<(String, i64)>> {
        const DUE: &str = "
            with age as (
                select p.name as lead, coalesce(s.age::interval, p.age) as age,
                    coalesce(s.age, p.age::text) as text
                from partitioned p left join unnest($1::text[], $2::text[]) as s (name, age) on s.name = p.name
                where p.goes_with = p.name and p.name <> all ($3::text[])
                  -- Citus detaches no partition concurrently.
                  and not (shard_of('00000000-0000-0000-0000-000000000000') <> 0 and p.name in (select name from sharded)))
            select lead, leaf from age cross join lateral leaves(lead) leaf
            where month_begin(leaf + 1) + age < now()
              and not exists (
                  select from archived a where a.name = lead and a.nth = leaf and a.state = 'restored' and a.restored_at_age = text)
            union
            select p.goes_with, a.nth from archived a join partitioned p using (name)
            where a.state in ('closed', 'written', 'leaving')
            order by 2, 1";
        let (tables, ages) = self.config.archive_ages.intervals();
        let rows = self.owner.rows(DUE, &[&tables, &ages, &self.config.archive_ages.never()]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Drops the tables that were detached a week ago.
    async fn drop_detached(&self) -> Outcome<u64> {
        let mut dropped = 0;
        for known in
            self.known("state = 'detached' and changed_at < clock_timestamp() - interval '7 days'").await?
        {
            // Whatever happened to the object since: it must be there, and the same.
            let manifest = self.store.check(&known.object()).await.map_err(|trouble| {
                Trouble(format!("{} stays, since its object is not to be relied on: {trouble}", known.leaf))
            })?;
            if known.sha256.as_ref() != Some(&manifest.sha256) {
                return Err(Trouble(format!("{} stays, since its object is another one", known.leaf)));
            }
            self.owner.patiently(&format!("drop table if exists {}", known.leaf), &[]).await?;
            hooks::step("archive.dropped").await;
            self.note(&known, "dropped").await?;
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Deletes the objects of months that are back: they are in Postgres alone.
    async fn delete_restored(&self) -> Outcome<()> {
        for known in self.known("state = 'restored'").await? {
            self.store.delete_but(&known.table, &known.month, None).await?;
        }
        Ok(())
    }
}

/// Archives what is due, or the one month that is asked for. Returns how many partitions it dealt with; none while another process
/// works.
pub async fn run(config: &Config, asked: Option<(&str, Month)>) -> Outcome<u64> {
    let Some(work) = Work::begin(config).await? else {
        tracing::info!("another process works on the archive");
        return Ok(0);
    };
    let mut done = 0;
    let due = match asked {
        Some((table, month)) => vec![(lead_of(&work, table).await?, month.number())],
        None => work.due().await?,
    };
    for (lead, nth) in due {
        done += work.archive(&lead, nth).await?;
    }
    done += erasing::erase_from_objects(&work).await?;
    work.delete_restored().await?;
    Ok(done + work.drop_detached().await?)
}

/// The table that a table's months go with.
pub async fn lead_of(work: &Work<'_>, table: &str) -> Outcome<String> {
    const LEAD: &str = "select goes_with from partitioned where name = $1 and goes_with is not null";
    let rows = work.owner.rows(LEAD, &[&table]).await?;
    let row = rows.first().ok_or_else(|| Trouble(format!("the months of {table} are not archived")))?;
    Ok(row.get(0))
}

/// What the archive knows, one line a month of a table.
pub async fn list(config: &Config) -> Outcome<Vec<String>> {
    let work = Work { owner: Owner::connect(config).await?, store: Store::of(config)?, config };
    let known = work.known("true").await?;
    Ok(known
        .iter()
        .map(|known| {
            let rows = known.rows.map_or_else(String::new, |rows| format!("{rows} rows"));
            format!("{:<20} {} {:<9} {:>12} {}", known.table, known.month, known.state, rows, known.object())
        })
        .collect())
}
