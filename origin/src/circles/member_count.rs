//! The audit of `member_count`, which a circle keeps beside its memberships, and of the newest of its days, which says the same.
//!
//! The counts themselves are written where memberships change, in [`super::members`] and [`super::roles`].

use futures_util::future::BoxFuture;
use optimist_plane::cache::fence::drop_copies;
use optimist_plane::ctx::Ctx;
use optimist_plane::domain::Sum;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;

pub const SUM: Sum =
    Sum { data_type: "member_count", sql: MEMBER_COUNT, is_grouped: false, mended: Some(mended) };

/// After the other: a count that was mended is the one that the day has to say.
pub const DAY_SUM: Sum = Sum { data_type: "member_days", sql: MEMBER_DAYS, is_grouped: false, mended: None };

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

    const MEMBER_DAYS: &str = "-- circles::member_days
with sample as (
    select c.id, c.member_count, newest.day, newest.members
    from (select id, member_count from circles where id > $1 order by id limit $2) c
    left join lateral (select day, members from member_days d where d.circle_id = c.id order by day desc limit 1) newest on true),
repaired as (
    update member_days d set members = d.members + s.member_count - s.members
    from sample s where $3 and d.circle_id = s.id and d.day = s.day and s.members <> s.member_count)
select id, id, coalesce(members <> member_count, false) from sample order by id";
}

/// The copy of the circle shows the count too.
fn mended(ctx: &Ctx, circle: Uuid) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        // Without Redis there is no copy.
        let _ = drop_copies(ctx, &[Key::circle(circle).name()]).await;
    })
}
