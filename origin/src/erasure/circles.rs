//! The erased leave their circles. One that somebody owns passes to whoever has moderated it longest, else to whoever has been in
//! it longest; if nobody else is in it, it is archived, without its texts.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hooks;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::WriteContext;
use optimist_plane::{statements, transaction};
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_shared::session::Role;
use serde_json::json;

use crate::circles::members::{count, delete, touch};
use crate::circles::moved;
use crate::circles::roles::hand_over;
use crate::circles::standing::Standing;
use crate::erasure::steps::{Left, Person, request};

statements! {
    const NEXT: &str = "-- erasure::next_circle
select circle_id, role from memberships where user_id = $1 and role <> 'banned' order by circle_id limit 1";

    const HEIR: &str = "-- erasure::heir
select user_id from (
    (select m.user_id, 1 as place from memberships m join users u on u.id = m.user_id and u.status = 'active'
     where circle_id = $1 and m.role = 'moderator' and m.user_id <> $2 order by joined_at, m.user_id limit 1)
    union all
    (select m.user_id, 2 from memberships m join users u on u.id = m.user_id and u.status = 'active'
     where circle_id = $1 and m.role <> 'banned' and m.user_id <> $2 order by joined_at, m.user_id limit 1)) heirs
order by place limit 1";

    /// If nobody else is in it.
    const SUSPENDED: &str = "-- erasure::suspended_heir
select m.user_id from memberships m join users u on u.id = m.user_id and u.status = 'suspended'
where circle_id = $1 and m.role <> 'banned' and m.user_id <> $2 limit 1";

    const CLOSE: &str = "-- erasure::close
update circles set archived_at = coalesce(archived_at, now()), name = 'Deleted circle', description = '', rules = '', category = null,
    version = version + 1, updated_at = now()
where id = $1";

    const LIFT: &str = "-- erasure::lift_bans
with gone as (
    delete from memberships where user_id = $1 and role = 'banned' and circle_id in (
        select circle_id from memberships where user_id = $1 and role = 'banned' limit 1000)
    returning 1)
select count(*) from gone";

    /// Nothing that the person posts comes after this.
    const LEFT: &str = "-- erasure::left
update erased set left_at = pg_current_xact_id() where user_id = $1";
}

/// Leaves the next circle, or notes that there is none.
pub async fn leave(ctx: &Ctx, person: &Person) -> Result<Left> {
    let user = person.user;
    let Some(row) = ctx.db.query_opt(NEXT, &[&user]).await? else {
        while ctx.db.query_opt(LIFT, &[&user]).await?.is_some_and(|row| row.get::<_, i64>(0) > 0) {}
        ctx.db.query(LEFT, &[&user]).await?;
        return Ok(Left::Nothing);
    };
    let circle: Uuid = row.get(0);
    if Role::parse(row.get(1)) == Some(Role::Owner) {
        give_away(ctx, circle, user).await?;
        hooks::step("erasure.given").await;
    }
    let request = request();
    let context = WriteContext::new("erasure::leave", &request, None, vec![circle, user]);
    transaction!(ctx, context, |tx| {
        touch(tx, circle, user);
        if !Standing::read(tx, circle, user).await?.role.is_member() {
            tx.unchanged();
            return Ok(());
        }
        delete(tx, circle, user).await?;
        count(tx, circle, -1).await?;
        tx.event("member.left", json!({"circle": circle, "user": user}));
        Ok(())
    })?;
    hooks::step("erasure.left").await;
    moved::left(ctx, circle, user).await;
    Ok(Left::More)
}

/// Gives a circle another owner, or archives it.
async fn give_away(ctx: &Ctx, circle: Uuid, owner: Uuid) -> Result<()> {
    let request = request();
    loop {
        let mut heir = ctx.db.query_opt(HEIR, &[&circle, &owner]).await?;
        if heir.is_none() {
            heir = ctx.db.query_opt(SUSPENDED, &[&circle, &owner]).await?;
        }
        let heir: Option<Uuid> = heir.map(|row| row.get(0));
        let order = [circle, owner].into_iter().chain(heir).collect();
        let context = WriteContext::new("erasure::give_away", &request, None, order);
        let is_given = transaction!(ctx, context, |tx| { give(tx, circle, owner, heir).await })?;
        if is_given {
            return Ok(());
        }
    }
}

/// Whether the circle has another owner now, or none. Not if the heir has changed meanwhile.
async fn give(tx: &mut Tx, circle: Uuid, owner: Uuid, heir: Option<Uuid>) -> Result<bool> {
    if Standing::read(tx, circle, owner).await?.role != Role::Owner {
        tx.unchanged();
        return Ok(true);
    }
    let mut now = tx.query_opt(HEIR, &[&circle, &owner]).await?;
    if now.is_none() {
        now = tx.query_opt(SUSPENDED, &[&circle, &owner]).await?;
    }
    if now.map(|row| row.get::<_, Uuid>(0)) != heir {
        tx.unchanged();
        return Ok(false);
    }
    match heir {
        Some(heir) => {
            hand_over(tx, circle, owner, heir).await?;
            touch(tx, circle, owner);
            touch(tx, circle, heir);
            tx.event("member.role", json!({"circle": circle, "user": heir, "role": Role::Owner.as_str()}));
        }
        None => {
            tx.execute(CLOSE, &[&circle]).await?;
            tx.touch(Key::circle(circle));
            tx.touch(Key::circle_access(circle));
            tx.touch(Key::circle_head(circle));
            tx.event("circle.archived", json!({"circle": circle}));
        }
    }
    Ok(true)
}
