//! Postgres's own sums: counts that are kept beside the rows that they count. One statement sees both, and mends the
//! difference by as much as it is, so that whoever counts on meanwhile is not undone.

use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};
use tokio_postgres::types::ToSql;

use super::{Audit, Findings, Tally};
use crate::cache::drop_copies;
use crate::error::Result;

pub const DATA_TYPES: [&str; 3] = ["member_count", "reaction_counts", "unread"];

/// Rows looked at in a pass.
const AT_ONCE: i64 = 200;

const MEMBER_COUNT: &str = "-- audit::member_count
with sample as (
    select id, member_count,
        (select count(*) from memberships where circle_id = circles.id and role <> 'banned')::integer as real
    from circles where id > $1 order by id limit $2),
repaired as (
    update circles c set member_count = c.member_count + s.real - s.member_count, version = version + 1
    from sample s where $3 and c.id = s.id and s.real <> s.member_count)
select id, id, real <> member_count from sample order by id";

const REACTION_COUNTS: &str = "-- audit::reaction_counts
with sample as (
    select circle_id, id from messages where (circle_id, id) > ($4, $1) order by circle_id, id limit $2),
counted as (
    select s.circle_id, s.id, kind, sum(real)::integer as real, sum(stored)::integer as stored
    from sample s join lateral (
        select kind, 1 as real, 0 as stored from reactions r
        where r.circle_id = s.circle_id and r.message_id = s.id and is_on
        union all
        select kind, 0, count from reaction_counts c where c.circle_id = s.circle_id and c.message_id = s.id) each on true
    group by s.circle_id, s.id, kind),
repaired as (
    insert into reaction_counts as c (circle_id, message_id, kind, count)
    select circle_id, id, kind, real - stored from counted where $3 and real <> stored
    on conflict (circle_id, message_id, kind) do update set count = c.count + excluded.count)
select circle_id, id, coalesce(bool_or(real <> stored), false)
from sample left join counted using (circle_id, id) group by circle_id, id order by circle_id, id";

const UNREAD: &str = "-- audit::unread
with sample as (
    select users.id, c.unread,
        (select count(*) from notifications n where n.user_id = users.id and n.read_at is null)::integer as real
    from users left join notification_counts c on c.user_id = users.id
    where users.id > $1 order by users.id limit $2),
added as (
    insert into notification_counts (user_id, unread)
    select id, real from sample where $3 and unread is null and real > 0 on conflict do nothing),
repaired as (
    update notification_counts c set unread = greatest(c.unread + s.real - s.unread, 0)
    from sample s where $3 and c.user_id = s.id and s.real <> s.unread)
select id, id, real <> coalesce(unread, 0) from sample order by id";

pub const STATEMENTS: &[&str] = &[MEMBER_COUNT, REACTION_COUNTS, UNREAD, super::reactions::STATEMENTS[0]];

/// The last that was looked at of each type; `None` once all were.
pub struct Walk([Option<(Uuid, Uuid)>; 3]);

impl Default for Walk {
    fn default() -> Walk {
        Walk([Some(Default::default()); 3])
    }
}

/// Looks at some of each. Whether all were looked at.
pub async fn pass(audit: &Audit<'_>, walk: &mut Walk, findings: &mut Findings) -> Result<bool> {
    for ((data_type, sql), after) in
        DATA_TYPES.into_iter().zip([MEMBER_COUNT, REACTION_COUNTS, UNREAD]).zip(&mut walk.0)
    {
        let Some((group, id)) = after.filter(|_| audit.wants(data_type)) else {
            *after = None;
            continue;
        };
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&id, &AT_ONCE, &audit.repair];
        if sql == REACTION_COUNTS {
            parameters.push(&group);
        }
        let rows = audit.app.db.query(sql, &parameters).await?;
        let tally = findings.entry(data_type).or_default();
        for row in &rows {
            let differs = row.get::<_, bool>(2);
            tally.add(if differs { Tally::CONFLICT } else { Tally::SAME });
            if differs {
                let id: Uuid = row.get(1);
                tracing::warn!(data_type, %id, repaired = audit.repair, "a sum differed from its rows");
                if sql == MEMBER_COUNT {
                    drop_circle(audit, id).await;
                }
            }
        }
        *after = rows.last().filter(|_| rows.len() as i64 == AT_ONCE).map(|row| (row.get(0), row.get(1)));
    }
    Ok(walk.0.iter().all(Option::is_none))
}

/// The copy shows the count too.
async fn drop_circle(audit: &Audit<'_>, circle: Uuid) {
    let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
    if let Some(name) = Key::Circle.render(&parameters).filter(|_| audit.repair) {
        // Without Redis there is none.
        let _ = drop_copies(audit.app, &[name]).await;
    }
}
