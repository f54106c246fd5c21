//! Brings an archived month back, and compares objects with what Postgres knows of them.
//!
//! A month is loaded into tables that nobody reads. They become partitions once their rows are those of the objects, and the rows
//! of erased people are gone: an object that is cut, changed or missing never replaces anything.

use std::collections::HashSet;

use crate::archive::erasing;
use crate::archive::objects::Summing;
use crate::archive::owner::{Outcome, Owner, Trouble};
use crate::archive::running::{Known, Work, lead_of};
use crate::config::Config;
use crate::hooks;
use crate::months::Month;

/// Records that are added by one statement.
const AT_ONCE: u64 = 2_000;

/// An object, and what is wrong with it, if anything.
pub struct Finding {
    pub object: String,
    pub trouble: Option<String>,
}

/// Reads each object, and compares it with its manifest and with what Postgres knows.
pub async fn verify(config: &Config) -> Outcome<Vec<Finding>> {
    let work = begin(config).await?;
    let mut findings = Vec::new();
    for known in work.known("state in ('written', 'leaving', 'detached', 'dropped')").await? {
        let trouble = check(&work, &known).await.err().map(|trouble| trouble.0);
        findings.push(Finding { object: known.object(), trouble });
    }
    Ok(findings)
}

async fn begin(config: &Config) -> Outcome<Work<'_>> {
    Work::begin(config).await?.ok_or_else(|| Trouble("another process works on the archive".to_owned()))
}

async fn check(work: &Work<'_>, known: &Known) -> Outcome<()> {
    let manifest = work.store.check(&known.object()).await?;
    let is_same = known.sha256.as_ref() == Some(&manifest.sha256)
        && known.rows == Some(manifest.rows.cast_signed())
        && (&manifest.table, &manifest.month) == (&known.table, &known.month);
    match is_same {
        true => Ok(()),
        false => Err(Trouble("its manifest is not the one that was written".to_owned())),
    }
}

/// Restores a month of a table and of those that go with it. Returns how many rows its objects had.
pub async fn restore(config: &Config, table: &str, month: Month) -> Outcome<u64> {
    let work = begin(config).await?;
    let lead = lead_of(&work, table).await?;
    let mut group = work.group(&lead, month.number()).await?;
    if group.is_empty() {
        return Err(Trouble("this month is not archived".to_owned()));
    }
    if group.iter().any(|known| ["closed", "written", "leaving"].contains(&known.state.as_str())) {
        return Err(Trouble(
            "this month is on its way to the archive: `archive run` finishes that".to_owned(),
        ));
    }
    // That which others go with last: whoever finds its rows finds theirs.
    group.reverse();
    group.retain(|known| known.state != "restored");
    erasing::learn_erased(&work).await?;
    let mut rows = 0;
    for known in &group {
        rows += load(&work, known, &standalone(known)).await?;
        erasing::erase_rows(&work, &known.table, &standalone(known)).await?;
        hooks::step("archive.loaded").await;
    }
    let age = age_of(&work, &lead).await?;
    for known in &group {
        const ATTACH: &str = "select attach_restored($1, $2, $3, $4)";
        work.owner.patiently(ATTACH, &[&known.table, &known.nth, &standalone(known), &age]).await?;
        hooks::step("archive.attached").await;
    }
    // Copies in Redis may say that the month is archived: none counts any more.
    work.owner.patiently("update regions set epoch = epoch + 1", &[]).await?;
    for known in &group {
        work.store.delete_but(&known.table, &known.month, None).await?;
    }
    Ok(rows)
}

/// The name of the table that a month is loaded into: one for each object.
pub fn standalone(known: &Known) -> String {
    format!("{}_v{}", known.leaf, known.version)
}

/// The age at which a table's months are archived, as it is set now.
async fn age_of(work: &Work<'_>, lead: &str) -> Outcome<String> {
    let (tables, ages) = work.config.archive_ages.intervals();
    if let Some(index) = tables.iter().position(|table| *table == lead) {
        return Ok(ages[index].to_owned());
    }
    Ok(work.owner.row("select age::text from partitioned where name = $1", &[&lead]).await?.get(0))
}

/// Loads an object into a table of its own, and compares the table with it.
pub async fn load(work: &Work<'_>, known: &Known, table: &str) -> Outcome<u64> {
    let object = known.object();
    let trouble = |trouble: Trouble| Trouble(format!("{object}: {trouble}"));
    check(work, known).await.map_err(trouble)?;
    let manifest = work.store.manifest(&object).await?;
    let columns = work.owner.columns(&known.table).await?.into_iter().collect::<HashSet<_>>();
    if let Some(gone) = manifest.columns.iter().find(|column| !columns.contains(*column)) {
        return Err(Trouble(format!("{} has no column {gone} any more", known.table)));
    }
    const MAKE: &str = "select make_standalone($1, $2, $3)";
    work.owner.patiently(MAKE, &[&known.table, &known.nth, &table]).await?;
    let mut reading = work.store.read(&object).await?;
    let (mut waiting, mut count) = (Vec::new(), 0);
    loop {
        let next = reading.next().await?;
        let is_last = next.is_none();
        if let Some((records, more)) = next {
            waiting.extend_from_slice(&records);
            count += more;
        }
        if count >= AT_ONCE || (is_last && count > 0) {
            add(&work.owner, table, &manifest.columns, &waiting).await?;
            (waiting, count) = (Vec::new(), 0);
        }
        if is_last {
            break;
        }
    }
    let mut sum = Summing::default();
    work.owner.copy_out(table, &manifest.columns, &mut sum).await?;
    if sum.end() != (manifest.rows, manifest.sha256) {
        return Err(Trouble(format!("{object}: the rows in Postgres are not the object's")));
    }
    Ok(manifest.rows)
}

/// Adds records, some at a time: the statement holds off everyone's fills.
async fn add(owner: &Owner, table: &str, columns: &[String], records: &[u8]) -> Outcome<()> {
    let mut pieces = crate::archive::csv::Records::default();
    let (mut part, mut count) = (Vec::new(), 0);
    // Pieces that end with a line end: each is one record, or a part of one that has a line break.
    for line in records.split_inclusive(|byte| *byte == b'\n') {
        let (whole, more) = pieces.take(line);
        part.extend_from_slice(&whole);
        count += more;
        if count >= AT_ONCE {
            owner.copy_in(table, columns, std::mem::take(&mut part)).await?;
            count = 0;
            hooks::step("archive.part").await;
        }
    }
    if !part.is_empty() {
        owner.copy_in(table, columns, part).await?;
    }
    Ok(())
}
