//! Whether people's own rows are spread over shards, and whose are together there.
//!
//! On shards "below the horizon" does not mean "settled": a shard may show its part of a transaction after the coordinator shows its
//! own. So copies of people's own rows are not kept in Redis there ([`crate::domain::Loader::Own`]).

use std::sync::Arc;

use optimist_shared::ids::Uuid;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::postgres::pool::Postgres;
use crate::postgres::transaction::Tx;
use crate::statements;

statements! {
    const SPREAD: &str = "-- shards::spread
select shard_of('00000000-0000-0000-0000-000000000000') <> 0";

    /// The people of each shard, the shards in their order.
    const TOGETHER: &str = "-- shards::together (5,000 rows)
select array_agg(person order by person) from unnest($1::uuid[]) as person group by shard_of(person) order by shard_of(person)";
}

/// What a pool knows. Nobody spreads tables while an origin lives, so the first answer stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Shards(Arc<OnceCell<bool>>);

impl Postgres {
    /// Whether people's own rows are on shards.
    pub async fn is_spread(&self) -> Result<bool> {
        let ask = async || {
            let row = self.query_opt(SPREAD, &[]).await?;
            row.map(|row| row.get(0)).ok_or_else(|| Error::internal("shards", &"no row"))
        };
        self.shards.0.get_or_try_init(ask).await.copied()
    }
}

impl Tx {
    /// The people whose rows a statement may lock together: all of them, or those of each shard. Citus refuses `for update` over
    /// several.
    pub async fn together(&self, people: &[Uuid]) -> Result<Vec<Vec<Uuid>>> {
        let ask = async || self.query_one(SPREAD, &[]).await.map(|row| row.get(0));
        if people.len() < 2 || !*self.shards.0.get_or_try_init(ask).await? {
            return Ok(vec![people.to_vec()]);
        }
        let rows = self.query(TOGETHER, &[&people]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
