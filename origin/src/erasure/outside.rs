//! The list of the erased that the archive's store has: a database that was restored from a backup learns of them before it is served.

use std::time::Duration;

use optimist_plane::archive::{self, Erased};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::region::switch;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::erasure::steps::request;
use crate::people::erasing::Erasure;

/// People of one statement.
const AT_ONCE: usize = 1_000;
/// How long to wait before another attempt.
const PAUSE: Duration = Duration::from_secs(3);

statements! {
    const UNKNOWN: &str = "-- erasure::unknown
select listed.user_id, listed.keeps_messages from unnest($1::uuid[], $2::boolean[]) as listed (user_id, keeps_messages)
where not exists (select from erased e where e.user_id = listed.user_id)
   or exists (select from users u where u.id = listed.user_id and u.status <> 'erased')";

    const ADD: &str = "-- erasure::add
insert into erased (user_id, keeps_messages) select * from unnest($1::uuid[], $2::boolean[])
on conflict (user_id) do update set step = 0, after = null, done_at = null";
}

/// Returns once nobody on the store's list has an account: whoever still has one is erased first. While the store or Postgres
/// cannot be asked, nothing is served. The rest of what they have left goes as it does for others, within the hour.
pub async fn apply_list(ctx: &Ctx) {
    if ctx.config.archive_url.is_none() {
        return;
    }
    switch::learn(ctx).await;
    loop {
        let why = match archive::listed(&ctx.config).await {
            Ok(listed) => match apply(ctx, &listed).await {
                Ok(()) => return,
                Err(error) => error.code.as_str().to_owned(),
            },
            Err(trouble) => trouble.to_string(),
        };
        tracing::error!(
            why,
            "the list of erased accounts cannot be read or applied; nothing is served before"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

async fn apply(ctx: &Ctx, listed: &[Erased]) -> Result<()> {
    for some in listed.chunks(AT_ONCE) {
        let (people, kept): (Vec<Uuid>, Vec<bool>) =
            some.iter().map(|erased| (erased.user, erased.keeps_messages)).unzip();
        let rows = ctx.db.query(UNKNOWN, &[&people, &kept]).await?;
        let unknown: Vec<Erased> =
            rows.iter().map(|row| Erased { user: row.get(0), keeps_messages: row.get(1) }).collect();
        add(ctx, &unknown).await?;
        for Erased { user, keeps_messages } in unknown {
            tracing::warn!(%user, "somebody on the list of the erased was unknown here, and is erased");
            Erasure { user, keeps_messages, by: None }.begin(ctx, &request()).await?;
        }
    }
    Ok(())
}

/// Adds people to Postgres's list: the job removes what they have left.
pub async fn add(ctx: &Ctx, people: &[Erased]) -> Result<()> {
    let (people, kept): (Vec<Uuid>, Vec<bool>) =
        people.iter().map(|erased| (erased.user, erased.keeps_messages)).unzip();
    ctx.db.query(ADD, &[&people, &kept]).await.map(drop)
}
