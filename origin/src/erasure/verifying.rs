//! Whether anything of an erased person is left: in Postgres, in the region's Redis, in archived months. For the command line.

use optimist_plane::archive::{Condition, remainder, unsearched};
use optimist_plane::ctx::Ctx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::erasure::keys;
use crate::erasure::tables::TABLES;

statements! {
    const STATE: &str = "-- erasure::state
select keeps_messages, done_at is not null from erased where user_id = $1";
}

/// Keys that anybody's question leaves, with nothing in them: about an account, a session or a membership that is not there.
const QUESTIONS: [&str; 3] = ["profile:", "session:", "membership:"];

/// What is left, one line each.
pub async fn verify(ctx: &Ctx, user: Uuid) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let code = |error: optimist_plane::error::Error| error.code.as_str();
    let state = ctx.db.query_opt(STATE, &[&user]).await.map_err(code)?;
    let (keeps_messages, is_done) = state.map_or((false, false), |row| (row.get(0), row.get(1)));
    let mut left = Vec::new();
    if !is_done {
        left.push("the erasure has not come to its end".to_owned());
    }
    let conditions: Vec<Condition> = TABLES
        .iter()
        .filter(|table| !(keeps_messages && table.name == "messages"))
        .filter_map(|table| Some((table.name, table.gone?)))
        .collect();
    let counts = remainder(&ctx.config, &conditions, user).await?;
    for ((table, _), count) in conditions.iter().zip(counts).filter(|(_, count)| *count > 0) {
        left.push(format!("{table}: {count} rows"));
    }
    let keys = keys::left(ctx, user).await.map_err(|_| "Redis cannot be asked")?;
    let keys = keys.into_iter().filter(|key| !QUESTIONS.iter().any(|start| key.starts_with(start)));
    left.extend(keys.map(|key| format!("Redis: {key}")));
    if ctx.config.archive_url.is_some() {
        let months = unsearched(&ctx.config, user).await?;
        left.extend(months.into_iter().map(|month| format!("archive: {month} is to be searched yet")));
    }
    Ok(left)
}
