//! Compares Postgres's own sums with their rows (see [`crate::domain::Sum`]). One statement sees both, and changes the sum by
//! the difference, so that concurrent changes are not undone.

use optimist_shared::ids::Uuid;
use tokio_postgres::types::ToSql;

use crate::audit::tally::{Findings, Tally};
use crate::audit::walk::Audit;
use crate::domain::Sum;
use crate::error::Result;

/// Rows looked at in a pass.
const AT_ONCE: i64 = 200;

/// For each sum, in the order of the domains, the last row looked at; `None` once all were. An empty walk begins anew.
#[derive(Default)]
pub struct Walk(Option<Vec<Option<(Uuid, Uuid)>>>);

/// Looks at some rows of each sum. Returns whether all were looked at.
pub async fn pass(audit: &Audit<'_>, walk: &mut Walk, findings: &mut Findings) -> Result<bool> {
    let sums: Vec<&Sum> = audit.ctx.registry.domains.iter().flat_map(|domain| domain.sums).collect();
    let places = walk.0.get_or_insert_with(|| vec![Some(Default::default()); sums.len()]);
    for (sum, place) in sums.into_iter().zip(places.iter_mut()) {
        *place = match place.filter(|_| audit.wants(sum.data_type)) {
            Some(after) => some(audit, sum, after, findings.entry(sum.data_type).or_default()).await?,
            None => None,
        };
    }
    Ok(places.iter().all(Option::is_none))
}

/// Looks at the next rows of a sum. Returns the last of them, if there may be more.
async fn some(
    audit: &Audit<'_>,
    sum: &Sum,
    (group, id): (Uuid, Uuid),
    tally: &mut Tally,
) -> Result<Option<(Uuid, Uuid)>> {
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&id, &AT_ONCE, &audit.repair];
    if sum.is_grouped {
        parameters.push(&group);
    }
    let rows = audit.ctx.db.query(sum.sql, &parameters).await?;
    for row in &rows {
        let differs = row.get::<_, bool>(2);
        tally.add(if differs { Tally::CONFLICT } else { Tally::SAME });
        if differs {
            let id: Uuid = row.get(1);
            let data_type = sum.data_type;
            tracing::warn!(data_type, %id, repaired = audit.repair, "a sum differed from its rows");
            if let Some(mended) = sum.mended.filter(|_| audit.repair) {
                mended(audit.ctx, id).await;
            }
        }
    }
    Ok(rows.last().filter(|_| rows.len() as i64 == AT_ONCE).map(|row| (row.get(0), row.get(1))))
}
