//! Whether a delivery is still wanted when it is about to be sent: rights, preferences, quiet hours, and whether the notification is
//! still there and unread.

use std::time::Duration;

use chrono::{DateTime, NaiveTime, Timelike as _, Utc};
use chrono_tz::Tz;
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hooks;
use optimist_plane::outgoing::delivery::{Delivery, Outcome};
use optimist_plane::outgoing::rows::query;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::people::letters::locale::Locale;

statements! {
    /// The person's own rows first, which may be on a shard.
    const CHECK: &str = "-- deliveries::check, planned anew
with own as materialized (
    select t.channel, t.endpoint, t.p256dh, t.auth, t.token_key, t.verified_at is not null as is_verified,
        n.kind, n.circle_id, n.message_id, n.actor_id, n.invite_id, n.actors, n.role, n.updated_at,
        n.read_at is not null or n.place <= r.read_through as is_read,
        case t.channel when 'push' then coalesce(p.push, 31) when 'webhook' then coalesce(p.webhook, 31)
            else coalesce(p.email, 0) end & notification_bit(n.kind) <> 0 as is_wanted,
        p.quiet_from, p.quiet_to, m.until > now() as is_muted
    from push_tokens t
    left join notifications n on n.user_id = t.user_id and n.month = id_month($2) and n.id = $2
    left join notification_counts r on r.user_id = t.user_id
    left join notification_preferences p on p.user_id = t.user_id
    left join notification_mutes m on m.user_id = t.user_id and m.circle_id = n.circle_id
    where t.user_id = $1 and t.id = $3)
select own.*, u.status, u.time_zone, u.email, u.email_verified_at is not null as has_email, u.name as user_name, u.locale,
    m.role as standing, c.name as circle_name, a.name as actor_name,
    own.invite_id is not null and not exists (select from usable_invites i where i.id = own.invite_id) as is_over
from users u
left join own on true
left join memberships m on m.circle_id = own.circle_id and m.user_id = u.id
left join circles c on c.id = own.circle_id
left join users a on a.id = own.actor_id
where u.id = $1";

    const MESSAGE: &str = "-- deliveries::message, planned anew
select from messages where circle_id = $1 and id = $2 and deleted_at is null";
}

/// A notification that is to be told at a place, with what the place needs.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub place: Place,
    /// The person's language.
    pub locale: Locale,
    pub kind: String,
    pub circle: Option<(Uuid, String)>,
    pub message: Option<Uuid>,
    pub actor: Option<(Uuid, String)>,
    pub actors: i32,
    pub role: Option<String>,
    pub at: DateTime<Utc>,
}

/// Where it goes.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub endpoint: String,
    pub p256dh: Option<Vec<u8>>,
    pub auth: Option<Vec<u8>>,
    pub token_key: Option<String>,
    pub email: String,
    pub name: String,
}

/// The notification, or what becomes of the delivery instead.
pub async fn check(ctx: &Ctx, delivery: &Delivery) -> Result<Result<Wanted, Outcome>> {
    let Delivery { user, subject, target, .. } = delivery;
    let rows = query(ctx, CHECK, &[user, subject, target]).await?;
    let Some(row) = rows.first() else { return Ok(Err(Outcome::Withdrawn("account"))) };
    let judged = judge(row, clock::now());
    if let Ok(Wanted { circle: Some((circle, _)), message: Some(message), .. }) = &judged
        && query(ctx, MESSAGE, &[circle, message]).await?.is_empty()
    {
        return Ok(Err(Outcome::Withdrawn("deleted")));
    }
    Ok(judged)
}

fn judge(row: &Row, now: DateTime<Utc>) -> Result<Wanted, Outcome> {
    let is = |name: &str| row.get::<_, Option<bool>>(name).unwrap_or_default();
    let channel: Option<String> = row.get("channel");
    let kind: Option<String> = row.get("kind");
    let standing: Option<String> = row.get("standing");
    let is_member = standing.as_deref().is_some_and(|role| role != "banned");
    let kind = match (channel.as_deref(), kind) {
        (None, _) => return Err(Outcome::Withdrawn("place")),
        (_, None) => return Err(Outcome::Withdrawn("notification")),
        (_, Some(kind)) => kind,
    };
    let needs_membership = !matches!(kind.as_str(), "invite" | "more" | "upheld" | "dismissed" | "removed");
    let is_email = channel.as_deref() == Some("email");
    let refusals = [
        (row.get::<_, String>("status") != "active", "account"),
        (!is("is_verified") || is_email && !is("has_email"), "unverified"),
        (is("is_read"), "read"),
        (!is("is_wanted"), "preferences"),
        (is("is_muted"), "muted"),
        (needs_membership && !is_member || standing.as_deref() == Some("banned"), "left"),
        (is("is_over"), "deleted"),
    ];
    if let Some((_, reason)) = refusals.into_iter().find(|(refuses, _)| *refuses)
        && !hooks::disabled("checked-again")
    {
        return Err(Outcome::Withdrawn(reason));
    }
    let quiet = row.get::<_, Option<NaiveTime>>("quiet_from").zip(row.get("quiet_to"));
    let zone: String = row.get("time_zone");
    if let Some(left) = quiet.and_then(|(from, to)| quiet_for(now, &zone, from, to)) {
        return Err(Outcome::Later(left));
    }
    let named =
        |id: &str, name: &str| Some((row.get::<_, Option<Uuid>>(id)?, row.get::<_, Option<String>>(name)?));
    Ok(Wanted {
        place: Place {
            endpoint: row.get("endpoint"),
            p256dh: row.get("p256dh"),
            auth: row.get("auth"),
            token_key: row.get("token_key"),
            email: row.get("email"),
            name: row.get("user_name"),
        },
        locale: Locale::named(row.get("locale")),
        kind,
        circle: named("circle_id", "circle_name"),
        message: row.get("message_id"),
        actor: named("actor_id", "actor_name"),
        actors: row.get("actors"),
        role: row.get("role"),
        at: row.get("updated_at"),
    })
}

/// How much longer it is quiet, by the person's clock. Equal times are no hours at all.
fn quiet_for(now: DateTime<Utc>, zone: &str, from: NaiveTime, to: NaiveTime) -> Option<Duration> {
    const DAY: u32 = 24 * 60 * 60;
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    let now = now.with_timezone(&zone).time().num_seconds_from_midnight();
    let (from, to) = (from.num_seconds_from_midnight(), to.num_seconds_from_midnight());
    // Since the beginning, round the clock.
    let (since, length) = ((now + DAY - from) % DAY, (to + DAY - from) % DAY);
    (since < length).then(|| Duration::from_secs(u64::from(length - since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_are_by_the_persons_clock_and_may_pass_midnight() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let clock = |hour, minute| NaiveTime::from_hms_opt(hour, minute, 0).unwrap();
        let left = |now: &str, zone: &str, from, to| {
            quiet_for(at(now), zone, from, to).map(|left| left.as_secs() / 60)
        };
        let (from, to) = (clock(22, 0), clock(7, 0));
        assert_eq!(left("2026-06-01T21:59:00Z", "UTC", from, to), None);
        assert_eq!(left("2026-06-01T22:00:00Z", "UTC", from, to), Some(9 * 60));
        assert_eq!(left("2026-06-02T06:59:00Z", "UTC", from, to), Some(1));
        assert_eq!(left("2026-06-02T07:00:00Z", "UTC", from, to), None);
        // Vienna is two hours ahead in June, and one in December.
        assert_eq!(left("2026-06-01T20:00:00Z", "Europe/Vienna", from, to), Some(9 * 60));
        assert_eq!(left("2026-12-01T20:00:00Z", "Europe/Vienna", from, to), None);
        let (from, to) = (clock(12, 30), clock(13, 0));
        assert_eq!(left("2026-06-01T12:45:00Z", "UTC", from, to), Some(15));
        assert_eq!(left("2026-06-01T13:00:00Z", "UTC", from, to), None);
        assert_eq!(left("2026-06-01T12:30:00Z", "UTC", from, from), None);
    }
}
