//! Plans deliveries: rows for each place that a person wants to be told at, in the transaction that writes the notification.

use optimist_plane::error::Result;
use optimist_plane::postgres::left::Ticket;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

statements! {
    /// Kinds and places as the preferences say, and nothing of muted circles. A person has 21 places at most, e-mail among them.
    const PLAN: &str = "-- deliveries::plan (21,000 rows)
insert into deliveries (user_id, subject, target, channel)
select t.user_id, told.subject, t.id, t.channel
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) as told (user_id, subject, kind, circle_id)
join push_tokens t on t.user_id = told.user_id and t.verified_at is not null
left join notification_preferences p on p.user_id = t.user_id
where notification_bit(told.kind) & (case t.channel
        when 'push' then coalesce(p.push, 31) when 'webhook' then coalesce(p.webhook, 31) else coalesce(p.email, 0) end) <> 0
  and not exists (
      select 1 from notification_mutes m
      where m.user_id = t.user_id and m.circle_id = told.circle_id and m.until > now())
on conflict do nothing
returning channel, user_id, subject, target";
}

/// A notification that was made a moment ago.
#[derive(Clone, Copy, Debug)]
pub struct New {
    pub user: Uuid,
    pub id: Uuid,
    pub kind: &'static str,
    pub circle: Uuid,
}

/// Plans the deliveries of new notifications.
pub async fn plan(tx: &Tx, new: &[New]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let ids = |of: fn(&New) -> Uuid| -> Vec<Uuid> { new.iter().map(of).collect() };
    let kinds: Vec<&str> = new.iter().map(|new| new.kind).collect();
    let (users, subjects, circles) = (ids(|new| new.user), ids(|new| new.id), ids(|new| new.circle));
    let rows = tx.query(PLAN, &[&users, &subjects, &kinds, &circles]).await?;
    tx.sends(rows.iter().map(Ticket::from_row));
    Ok(())
}
