//! Tells people of events: writes their notifications from the outbox, in its order, and plans where these are delivered.
//!
//! Whom a message concerns is [`crate::notifications::recipients`]'. It does not tell of reactions: [`crate::notifications::folding`] folds those. It makes nobody forget anything:
//! [`crate::notifications::forgetting`] does.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use optimist_plane::clock;
use optimist_plane::error::Result;
use optimist_plane::months::Month;
use optimist_plane::outbox::event::{Done, Event};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::deliveries::planning::{New, plan};
use crate::notifications::counts::STATE;
use crate::notifications::forgetting;
use crate::notifications::kept::months_of;
use crate::notifications::recipients::{self, Posted, Recipient};
use crate::notifications::threads;
use crate::notifications::upkeep::evict;

/// People who are told in one statement.
const AT_ONCE: i64 = 1_000;
/// Everyone in a circle of so many members is told of a message. In a larger one those are whom it names.
const EVERYONE: i64 = 200;
/// As many people as are told of a message that is not for everyone: those whom it names, and who follows its thread.
const FEW: i64 = recipients::NAMED + recipients::FOLLOWERS;

statements! {
    /// Tells people of what [`recipients`] has found, at most as much as `may_tell` says. `$9` are the months of the notifications'
    /// ids. Selects what was told (`new`), who now has more than they keep (`full`), and how many of whose were too many (`more`).
    const TELL: &str = "-- notifications::tell, planned anew (3,000 rows)
with person as (
    select * from unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::timestamptz[], $8::integer[])
        as person (user_id, id, kind, circle_id, message_id, actor_id, at, actors)),
known as (
    select n.user_id, n.id from notifications n join person p
        on n.user_id = p.user_id and n.month = id_month(p.id) and n.month = any($9::date[]) and n.id = p.id),
preferred as (
    select user_id, in_app from notification_preferences where user_id in (select user_id from person)),
told as (
    select p.*, row_number() over (partition by p.user_id order by p.id) as nth
    from person p left join preferred f on f.user_id = p.user_id left join known k on k.user_id = p.user_id and k.id = p.id
    where coalesce(f.in_app, 31) & notification_bit(p.kind) <> 0 and k.id is null),
counted as (
    insert into notification_counts as c
        (user_id, last_place, unread, held, told, burst, burst_at, daily, daily_at)
    select user_id, n, n, n, n, n, now(), n, now()
    from (select user_id, least(count(*), 60) as n from told group by user_id) wanted order by user_id
    on conflict (user_id) do update
    set told = may_tell(c.burst, c.burst_at, c.daily, c.daily_at, excluded.told, excluded.burst_at),
        last_place = c.last_place + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, excluded.told, excluded.burst_at),
        unread = c.unread + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, excluded.told, excluded.burst_at),
        held = c.held + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, excluded.told, excluded.burst_at),
        burst = told_since(c.burst, c.burst_at, '10 minutes', excluded.burst_at) + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, excluded.told, excluded.burst_at),
        burst_at = case when excluded.burst_at - c.burst_at < interval '10 minutes' then c.burst_at else excluded.burst_at end,
        daily = told_since(c.daily, c.daily_at, '1 day', excluded.daily_at) + may_tell(c.burst, c.burst_at, c.daily, c.daily_at, excluded.told, excluded.burst_at),
        daily_at = case when excluded.daily_at - c.daily_at < interval '1 day' then c.daily_at else excluded.daily_at end
    returning user_id, last_place, held, told),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, message_id, actor_id, actors, place, created_at, updated_at)
    select user_id, id_month(id), id, kind, circle_id, message_id, actor_id, actors, last_place - counted.told + nth, at, at
    from told join counted using (user_id) where nth <= counted.told
    returning user_id, id, kind, circle_id)
select 'new', user_id, id, kind, circle_id, 1 from noted
union all
select 'full', user_id, null, null, null, 0 from counted where held > 1000
union all
select 'more', user_id, null, null, null, count(*)::integer
from told join counted using (user_id) where nth > counted.told group by user_id";

    /// Adds to people's unread notifications of how many there were besides, of the month `$3`. [`TELL`] has locked their counts.
    const MORE_AGAIN: &str = "-- notifications::more_again, planned anew (3,000 rows)
update notifications n set actors = n.actors + m.n, updated_at = now()
from unnest($1::uuid[], $2::integer[]) as m (user_id, n), notification_counts p
where n.user_id = m.user_id and p.user_id = n.user_id and n.circle_id = '00000000-0000-0000-0000-000000000000' and n.month = $3 and n.kind = 'more'
  and n.read_at is null and n.place > p.read_through
returning n.user_id";

    /// Makes them. `$3` are their ids.
    const MORE: &str = "-- notifications::more (3,000 rows)
with counted as (
    insert into notification_counts as c (user_id, last_place, unread, held)
    select user_id, 1, 1, 1 from unnest($1::uuid[]) as user_id order by user_id
    on conflict (user_id) do update
    set last_place = c.last_place + 1, unread = c.unread + 1, held = c.held + 1
    returning user_id, last_place, held),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, actors, place, created_at, updated_at)
    select user_id, id_month(id), id, 'more', '00000000-0000-0000-0000-000000000000', n, last_place, now(), now()
    from unnest($1::uuid[], $2::integer[], $3::uuid[]) as m (user_id, n, id) join counted using (user_id))
select user_id from counted where held > 1000";

    /// Changes what someone is told of their role, if they have not read it: changes of a role within a month are one
    /// notification.
    const ROLE_AGAIN: &str = "-- notifications::role_again, planned anew
with person as materialized (select read_through from notification_counts where user_id = $1 for update)
update notifications n set role = $4, actor_id = $3, updated_at = $5 from person
where n.user_id = $1 and n.month = id_month($6) and n.circle_id = $2 and n.kind = 'role' and n.read_at is null
  and n.place > read_through";

    /// Tells a member of their role, or of what else `$7` is, which goes with roles.
    const ROLE: &str = "-- notifications::role
with counted as (
    insert into notification_counts as c (user_id, last_place, unread, held)
    select user_id, 1, 1, 1 from memberships m
    where circle_id = $3 and user_id = $1 and role <> 'banned' and user_id <> $4 and not is_silenced($1, $4)
      and not exists (select 1 from notification_preferences where user_id = $1 and in_app & 8 = 0)
    on conflict (user_id) do update
    set last_place = c.last_place + 1, unread = c.unread + 1, held = c.held + 1
    returning user_id, last_place, held),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, actor_id, role, place, created_at, updated_at)
    select user_id, id_month($2), $2, $7, $3, $4, $5, last_place, $6, $6 from counted)
select user_id, held > 1000 from counted";

    const INVITE: &str = "-- notifications::invite, planned anew
with counted as (
    insert into notification_counts as c (user_id, last_place, unread, held)
    select id, 1, 1, 1 from users
    where id = $1 and status <> 'erased' and not is_silenced($1, $4) and not exists (select 1 from notifications where user_id = $1 and month = id_month($2) and id = $2)
      and not exists (select 1 from notification_preferences where user_id = $1 and in_app & 16 = 0)
    on conflict (user_id) do update
    set last_place = c.last_place + 1, unread = c.unread + 1, held = c.held + 1
    returning user_id, last_place, held),
noted as (
    insert into notifications (user_id, month, id, kind, circle_id, actor_id, invite_id, place, created_at, updated_at)
    select user_id, id_month($2), $2, 'invite', $3, $4, $2, last_place, $5, $5 from counted)
select user_id, held > 1000 from counted";

    /// The number of members of each circle.
    const MEMBERS: &str = "-- notifications::members
select id, member_count from circles where id = any($1)";
}

/// Tells of messages: as many at once as go to a bounded number of people.
pub async fn tell_of_messages(tx: &Tx, events: &[Event]) -> Result<Done> {
    let messages: Vec<Posted> = events.iter().map_while(Posted::of).collect();
    if messages.is_empty() {
        return Ok(Done { events: 1.min(events.len()), written: 0, up_to: None });
    }
    let several = to_few(tx, messages).await?;
    tell_of(tx, &several).await?;
    Ok(Done { events: several.messages.len(), written: several.people.cast_unsigned(), up_to: None })
}

/// Tells the person that the first event is about.
pub async fn tell_of_event(tx: &Tx, events: &[Event]) -> Result<Done> {
    let Some(event) = events.first() else { return Ok(Done { events: 0, written: 0, up_to: None }) };
    let written = match event.id("circle") {
        Some(circle) => tell(tx, event, circle).await?,
        None => 0,
    };
    Ok(Done { events: 1, written, up_to: None })
}

/// Messages, whether each is for everyone in its circle, and about how many people they go to together.
struct Several {
    messages: Vec<Posted>,
    are_for_all: Vec<bool>,
    people: i64,
}

/// The first messages that together go to no more people than are told at once: at least one.
async fn to_few(tx: &Tx, all: Vec<Posted>) -> Result<Several> {
    let circles: Vec<Uuid> = all.iter().map(|message| message.circle).collect();
    let rows = tx.query(MEMBERS, &[&circles]).await?;
    let members: HashMap<Uuid, i32> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut several = Several { messages: Vec::new(), are_for_all: Vec::new(), people: 0 };
    for message in all {
        let members = members.get(&message.circle).map_or(EVERYONE + 1, |count| i64::from(*count));
        // A comment is for those who follow its thread.
        let is_for_all = members <= EVERYONE && message.parent.is_none();
        let people = several.people + if is_for_all { members } else { FEW };
        if people > AT_ONCE && !several.messages.is_empty() {
            break;
        }
        several.people = people;
        several.are_for_all.push(is_for_all);
        several.messages.push(message);
    }
    Ok(several)
}

async fn tell_of(tx: &Tx, Several { messages, are_for_all, .. }: &Several) -> Result<()> {
    let people = recipients::find(tx, messages, are_for_all).await?;
    tell_people(tx, &threads::fold(tx, people).await?).await
}

/// Tells those whom only the new text of a message names, and makes those forget it whom only the former one named.
pub async fn tell_of_edit(tx: &Tx, events: &[Event]) -> Result<Done> {
    let Some(event) = events.first() else { return Ok(Done { events: 0, written: 0, up_to: None }) };
    if let (Some(circle), Some(message), Some(author)) =
        (event.id("circle"), event.id("message"), event.actor)
    {
        forgetting::forget_naming(tx, event, circle, message).await?;
        let people = recipients::find_named(tx, event, circle, message, author).await?;
        tell_people(tx, &people).await?;
    }
    Ok(Done { events: 1, written: 1, up_to: None })
}

/// Writes what people are told, and plans where it is delivered.
pub async fn tell_people(tx: &Tx, people: &[Recipient]) -> Result<()> {
    if people.is_empty() {
        return Ok(());
    }
    let ids = |of: fn(&Recipient) -> Uuid| -> Vec<Uuid> { people.iter().map(of).collect() };
    let (users, told, circles) = (ids(|one| one.user), ids(|one| one.id), ids(|one| one.circle));
    let (messages, actors): (Vec<Option<Uuid>>, Vec<Option<Uuid>>) =
        people.iter().map(|one| (one.message, one.actor)).unzip();
    let kinds: Vec<&str> = people.iter().map(|one| one.kind).collect();
    let at: Vec<DateTime<Utc>> = people.iter().map(|one| one.at).collect();
    let counts: Vec<i32> = people.iter().map(|one| one.count).collect();
    let months = months_of(&told);
    let rows =
        tx.query(TELL, &[&users, &told, &kinds, &circles, &messages, &actors, &at, &counts, &months]).await?;
    tx.changes(STATE, rows.iter().map(|row| row.get(1)));
    let of = |what: &'static str| rows.iter().filter(move |row| row.get::<_, &str>(0) == what);
    let new: Vec<New> = of("new")
        .map(|row| {
            let kind = recipients::kind_of(row.get(3));
            New { user: row.get(1), id: row.get(2), kind, circle: row.get(4) }
        })
        .collect();
    plan(tx, &new).await?;
    let full: Vec<Uuid> = of("full").map(|row| row.get(1)).collect();
    evict(tx, &full).await?;
    tell_of_more(tx, of("more").map(|row| (row.get(1), row.get(5))).collect()).await
}

/// Tells people how many notifications there were besides: one notification, which counts until it is read.
async fn tell_of_more(tx: &Tx, mut more: Vec<(Uuid, i32)>) -> Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    let month = Month::of(clock::now()).first_day();
    let (users, counts): (Vec<Uuid>, Vec<i32>) = more.iter().copied().unzip();
    let rows = tx.query(MORE_AGAIN, &[&users, &counts, &month]).await?;
    let again: HashSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    more.retain(|(user, _)| !again.contains(user));
    if more.is_empty() {
        return Ok(());
    }
    let (users, counts): (Vec<Uuid>, Vec<i32>) = more.into_iter().unzip();
    let ids: Vec<Uuid> = users.iter().map(|_| Uuid::now_v7()).collect();
    let rows = tx.query(MORE, &[&users, &counts, &ids]).await?;
    let new: Vec<New> = users
        .iter()
        .zip(&ids)
        .map(|(user, id)| New { user: *user, id: *id, kind: "more", circle: Uuid::nil() })
        .collect();
    plan(tx, &new).await?;
    let full: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    evict(tx, &full).await.map(drop)
}

/// Tells someone of their role, of an invitation, or of a circle that is offered to them. Returns about how many rows that were.
async fn tell(tx: &Tx, event: &Event, circle: Uuid) -> Result<u64> {
    let (Some(user), Some(actor)) = (event.id("user"), event.actor) else { return Ok(0) };
    // Who has come in by themselves knows it.
    let let_in = (event.kind == "member.joined" && actor != user).then_some("member");
    if event.kind == "member.joined" && let_in.is_none() {
        return Ok(0);
    }
    tx.changes(STATE, [user]);
    let (id, kind, rows) = match (event.kind.as_str(), event.text("role").or(let_in), event.id("invite")) {
        ("member.role" | "member.joined", Some(role), _) => {
            let id = Uuid::now_v7();
            if tx.execute(ROLE_AGAIN, &[&user, &circle, &actor, &role, &event.at, &id]).await? > 0 {
                return Ok(1);
            }
            (
                id,
                "role",
                tx.query(ROLE, &[&user, &id, &circle, &actor, &Some(role), &event.at, &"role"]).await?,
            )
        }
        ("ownership.offered", _, _) => {
            let (id, no_role) = (Uuid::now_v7(), None::<&str>);
            (
                id,
                "offer",
                tx.query(ROLE, &[&user, &id, &circle, &actor, &no_role, &event.at, &"offer"]).await?,
            )
        }
        ("invite.created", _, Some(invite)) => {
            (invite, "invite", tx.query(INVITE, &[&user, &invite, &circle, &actor, &event.at]).await?)
        }
        _ => return Ok(0),
    };
    let Some(row) = rows.first() else { return Ok(1) };
    plan(tx, &[New { user, id, kind, circle }]).await?;
    if row.get(1) {
        evict(tx, &[user]).await?;
    }
    Ok(1)
}
