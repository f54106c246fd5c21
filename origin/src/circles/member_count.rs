//! The audit of `member_count`, which a circle keeps beside its memberships.
//!
//! The count itself is written where memberships change, in [`super::members`] and [`super::roles`].

use futures_util::future::BoxFuture;
use optimist_plane::cache::fence::drop_copies;
use optimist_plane::ctx::Ctx;
use optimist_plane::domain::Sum;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;

pub const SUM: Sum =
    Sum { data_type: "member_count", sql: MEMBER_COUNT, is_grouped: false, mended: Some(mended) };

statements! {
    const MEMBER_COUNT: &str = "-- circles::member_count (60,000 rows, uncapped: circle members)
with sample as (
    select id, member_count,
        (select count(*) from memberships where circle_id = circles.id and role <> 'banned')::integer as real
    from circles where id > $1 order by id limit $2),
repaired as (
    update circles c set member_count = c.member_count + s.real - s.member_count, version = version + 1
    from sample s where $3 and c.id = s.id and s.real <> s.member_count)
select id, id, real <> member_count from sample order by id";
}

/// The copy of the circle shows the count too.
fn mended(ctx: &Ctx, circle: Uuid) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        // Without Redis there is no copy.
        let _ = drop_copies(ctx, &[Key::circle(circle).name()]).await;
    })
}
