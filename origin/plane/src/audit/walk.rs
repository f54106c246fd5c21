//! The auditor's endless round through Redis's keys and Postgres's sums.
//!
//! It proves nothing about a moment: keys that change meanwhile are passed over, and looked at again in the next round.

use std::sync::LazyLock;

use ::redis::{Cmd, Value};
use optimist_shared::ids::Partition;
use optimist_shared::keys::{BoundKey, Freshness, KEYS, Key};
use optimist_shared::scripts::Scalars as _;
use tokio::sync::Mutex;

use crate::audit::tally::{Findings, Suspect, Tally};
use crate::audit::{copies, sums};
use crate::ctx::Ctx;
use crate::domain::{Compare, Registry};
use crate::error::{Error, Result};
use crate::redis::Items;
use crate::statements;

/// Keys compared in one pass, and keys looked at to find them: a second's work of one connection.
const COMPARED: usize = 300;
const SCANS: usize = 5;
const SCANNED: usize = 1_000;

statements! {
    const NOTE: &str = "-- audit::note
insert into consistency as c (region, data_type, checked, conflicts, stale, checked_at, conflict_at)
values ($1, $2, $3, $4::bigint, $5, now(), case when $4::bigint > 0 then now() end)
on conflict (region, data_type) do update
    set checked = c.checked + excluded.checked, conflicts = c.conflicts + excluded.conflicts,
        stale = c.stale + excluded.stale, checked_at = excluded.checked_at,
        conflict_at = coalesce(excluded.conflict_at, c.conflict_at)";
}

/// The progress of a round: through Redis's keys, and through Postgres's sums.
#[derive(Default)]
pub struct Walk {
    redis: u64,
    sums: sums::Walk,
}

/// The scope of an audit, and whether it repairs.
#[derive(Clone, Copy)]
pub struct Audit<'a> {
    pub ctx: &'a Ctx,
    /// Whether differences are repaired.
    pub repair: bool,
    /// The only data type to compare, if set.
    pub only: Option<&'a str>,
}

/// All data types that are compared.
pub fn data_types(registry: &Registry) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|row| is_compared(registry, row.key)).map(|row| row.data_type);
    keys.chain(registry.domains.iter().flat_map(|domain| domain.sums).map(|sum| sum.data_type)).collect()
}

/// A domain's own comparison of a key, if it is not compared as a copy.
fn compare_of(registry: &Registry, key: Key) -> Option<Compare> {
    let mut rows = registry.domains.iter().flat_map(|domain| domain.audits);
    rows.find(|(known, _)| *known == key).map(|(_, compare)| *compare)
}

fn is_compared(registry: &Registry, key: Key) -> bool {
    matches!(key.row().freshness, Freshness::Fenced | Freshness::Ttl) || compare_of(registry, key).is_some()
}

/// The job: runs a pass and records its findings.
pub async fn run(ctx: &Ctx) -> Result<u64> {
    // Each origin goes its own round.
    static WALK: LazyLock<Mutex<Walk>> = LazyLock::new(Mutex::default);
    let mut walk = WALK.lock().await;
    let (findings, _) = Audit { ctx, repair: true, only: None }.pass(&mut walk).await?;
    for (data_type, tally) in &findings {
        let numbers: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&tally.checked, &tally.conflicts, &tally.stale];
        ctx.db.query(NOTE, &[&ctx.config.region, data_type, numbers[0], numbers[1], numbers[2]]).await?;
        metrics::counter!("optimist_audited_total", "type" => *data_type)
            .increment(tally.checked.cast_unsigned());
        metrics::counter!("optimist_conflicts_total", "type" => *data_type)
            .increment(tally.conflicts.cast_unsigned());
    }
    Ok(findings.values().map(|tally| tally.checked.cast_unsigned()).sum())
}

/// Compares everything, once. Fails if nobody vouches for Redis: then nothing there is comparable.
pub async fn check(audit: Audit<'_>) -> Result<Findings> {
    let mut vouch = Cmd::new();
    vouch.arg("EXISTS").arg(Key::Vouch.of_partition(Partition::COMMON));
    let vouched = audit.ctx.redis.send([vouch]).await.map_err(|_| Error::unavailable("The cache"))?;
    if vouched.into_iter().map(|value| Items::new(value).int()).sum::<i64>() == 0 {
        return Err(Error::unavailable("A relay that vouches for the cache"));
    }
    let mut walk = Walk::default();
    let mut all = Findings::new();
    loop {
        let (findings, is_round) = audit.pass(&mut walk).await?;
        for (data_type, tally) in findings {
            all.entry(data_type).or_default().add(tally);
        }
        if is_round {
            return Ok(all);
        }
    }
}

impl Audit<'_> {
    pub fn wants(&self, data_type: &str) -> bool {
        self.only.is_none_or(|only| only == data_type)
    }

    /// Continues where the last pass ended. Returns the findings, and whether the round is complete.
    async fn pass(&self, walk: &mut Walk) -> Result<(Findings, bool)> {
        let mut findings = Findings::new();
        let names = if walk.redis == u64::MAX { Vec::new() } else { self.scan(&mut walk.redis).await? };
        for name in names {
            let Some(key) = BoundKey::parse(&name).filter(|key| is_compared(self.ctx.registry, key.key()))
            else {
                continue;
            };
            let data_type = key.row().data_type;
            if self.wants(data_type) {
                let tally = self.compare(key, &name).await?;
                if tally.conflicts > 0 {
                    tracing::warn!(
                        key = name,
                        data_type,
                        repaired = self.repair,
                        "redis differed from postgres"
                    );
                }
                findings.entry(data_type).or_default().add(tally);
            }
        }
        let sums_round = sums::pass(self, &mut walk.sums, &mut findings).await?;
        let is_round = walk.redis == u64::MAX && sums_round;
        if is_round {
            *walk = Walk::default();
        }
        Ok((findings, is_round))
    }

    /// Finds the next keys. The cursor is `u64::MAX` once there are none left.
    async fn scan(&self, cursor: &mut u64) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for _ in 0..SCANS {
            let mut scan = Cmd::new();
            scan.arg("SCAN").arg(*cursor).arg("COUNT").arg(SCANNED);
            let values = self.ctx.redis.send([scan]).await.map_err(|_| Error::unavailable("The cache"))?;
            let Some(Value::Array(parts)) = values.into_iter().next() else { return Ok(names) };
            let mut parts = parts.into_iter();
            let next = Items::new(parts.next().unwrap_or(Value::Nil)).text().parse().unwrap_or(0);
            if let Some(Value::Array(found)) = parts.next() {
                let found = found.into_iter().map(|name| Items::new(name).text());
                names.extend(found.filter(|name| {
                    BoundKey::parse(name).is_some_and(|key| is_compared(self.ctx.registry, key.key()))
                }));
            }
            *cursor = if next == 0 { u64::MAX } else { next };
            if next == 0 || names.len() >= COMPARED {
                break;
            }
        }
        Ok(names)
    }

    async fn compare(&self, key: BoundKey, name: &str) -> Result<Tally> {
        let suspect = Suspect { key, name, repair: self.repair };
        match compare_of(self.ctx.registry, key.key()) {
            Some(compare) => compare(self.ctx, suspect).await,
            None => copies::compare(self.ctx, suspect).await,
        }
    }
}
