//! The rows that are the person's alone, and those that name them: removed, some at a time.
//!
//! Which tables there are, and which condition finds what is left in each, is [`super::tables`]'.

use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::hooks;
use optimist_plane::months::Month;
use optimist_plane::statements;
use optimist_shared::session::hex;
use sha2::{Digest as _, Sha256};

use crate::erasure::steps::{Left, Person};

/// Rows that one statement removes.
const AT_ONCE: i64 = 500;

statements! {
    const DRAFTS: &str = "-- erasure::drafts
delete from drafts where user_id = $1 and id in (select id from drafts where user_id = $1 limit $2)";

    const TAGS: &str = "-- erasure::tags
delete from journal_tags where user_id = $1 and (tag, entry_id) <= (
    select tag, entry_id from (
        select tag, entry_id from journal_tags where user_id = $1 order by tag, entry_id limit $2) next
    order by tag desc, entry_id desc limit 1)";

    const VERSIONS: &str = "-- erasure::entry_versions
delete from journal_entry_versions where user_id = $1 and (entry_id, version) <= (
    select entry_id, version from (
        select entry_id, version from journal_entry_versions where user_id = $1 order by entry_id, version limit $2) next
    order by entry_id desc, version desc limit 1)";

    /// Their former texts and tags are gone.
    const ENTRIES: &str = "-- erasure::entries
delete from journal_entries where user_id = $1 and id in (select id from journal_entries where user_id = $1 limit $2)";

    const FAVORITES: &str = "-- erasure::favorites
delete from favorites where user_id = $1 and message_id in (select message_id from favorites where user_id = $1 limit $2)";

    const BLOCKS: &str = "-- erasure::blocks
delete from blocks where user_id = $1 and blocked_id in (select blocked_id from blocks where user_id = $1 limit $2)";

    const MUTED: &str = "-- erasure::mutes
delete from mutes where user_id = $1 and muted_id in (select muted_id from mutes where user_id = $1 limit $2)";

    const MOODS: &str = "-- erasure::moods
delete from moods where user_id = $1 and id in (select id from moods where user_id = $1 limit $2)";

    const ACTORS_GONE: &str = "-- erasure::notification_actors_gone
delete from notification_actors_gone where user_id = $1 and notification_id in (
    select notification_id from notification_actors_gone where user_id = $1 limit $2)";

    const COUNTS: &str = "-- erasure::notification_counts
delete from notification_counts where user_id = $1 and $2 > 0::bigint";

    const MUTES: &str = "-- erasure::notification_mutes
delete from notification_mutes where user_id = $1 and circle_id in (
    select circle_id from notification_mutes where user_id = $1 limit $2)";

    const PREFERENCES: &str = "-- erasure::notification_preferences
delete from notification_preferences where user_id = $1 and $2 > 0::bigint";

    const DEVICES: &str = "-- erasure::push_tokens
delete from push_tokens where user_id = $1 and id in (select id from push_tokens where user_id = $1 limit $2)";

    const DELIVERIES: &str = "-- erasure::deliveries
delete from deliveries where user_id = $1 and (subject, target) in (
    select subject, target from deliveries where user_id = $1 limit $2)";

    const KEYS: &str = "-- erasure::journal_keys
delete from journal_keys where user_id = $1 and $2 > 0::bigint";

    const SESSIONS: &str = "-- erasure::sessions
delete from sessions where id = any(array(select id from sessions where user_id = $1 and revoked_at is not null limit $2))";

    const TOKENS: &str = "-- erasure::account_tokens
delete from account_tokens where hash = any(array(select hash from account_tokens where user_id = $1 limit $2))";

    const IDEMPOTENCY: &str = "-- erasure::idempotency
delete from idempotency where user_id = $1 and (route, key) in (
    select route, key from idempotency where user_id = $1 limit $2)";

    const INVITES: &str = "-- erasure::invites
delete from invites where id = any(array(
    (select id from invites where created_by = $1 limit $2) union (select id from invites where for_user = $1 limit $2)))";

    const USED_INVITES: &str = "-- erasure::used_invites
update invites set used_by = null where id = any(array(select id from invites where used_by = $1 limit $2))";

    const REPORTS: &str = "-- erasure::reports
delete from reports where reporter_id = $1 and message_id = any(array(select message_id from reports where reporter_id = $1 limit $2))";

    /// With the reports of their messages: a hundred of each round.
    const CASES: &str = "-- erasure::report_cases
delete from report_cases where message_id = any(array(select message_id from report_cases where author_id = $1 limit $2::bigint / 25))";

    const DECIDED: &str = "-- erasure::decided_reports
update report_cases set decided_by = null where message_id = any(array(
    select message_id from report_cases where decided_by = $1 limit $2))";

    const PIECES: &str = "-- erasure::export_pieces
delete from export_pieces where user_id = $1 and (export_id, number) in (
    select export_id, number from export_pieces where user_id = $1 order by export_id, number limit $2::bigint / 5)";

    const EXPORTS: &str = "-- erasure::exports
delete from exports where user_id = $1 and $2 > 0::bigint";

    const NAMES: &str = "-- erasure::changed_names
delete from changed_names where kind = 'person' and id = $1 and $2 > 0::bigint";

    const WRITES: &str = "-- erasure::writes_set_aside
delete from writes_set_aside where (region, partition, generation, position_ms, position_seq) in (
    select region, partition, generation, position_ms, position_seq from writes_set_aside
    where entry like '%' || $1::uuid || '%' limit $2)";

    /// Those that are long go on: they are about what others have.
    const EVENTS: &str = "-- erasure::events_set_aside
delete from events_set_aside where (xid, seq) in (
    select xid, seq from events_set_aside where reason <> 'long' and (actor = $1 or payload ->> 'user' = $1::text) limit $2)";

    /// The sums of the days that are counted lose what goes.
    const ACTIVITY: &str = "-- erasure::activity, planned anew
with gone as (
    delete from activity where user_id = $1 and day >= $2 and day < $2 + interval '1 month' and (circle_id, day) <= (
        select circle_id, day from (
            select circle_id, day from activity where user_id = $1 and day >= $2 and day < $2 + interval '1 month'
            order by circle_id, day limit $3) next
        order by circle_id desc, day desc limit 1)
    returning circle_id, day, posts, comments, reactions),
counted as materialized (
    select g.* from gone g cross join lateral (
        select from circles c where c.id = g.circle_id and c.counted_from <= g.day offset 0) c),
days as (
    insert into activity_days as known (circle_id, day, part, posts, comments, reactions, people)
    select circle_id, day, 2, -posts, -comments, -reactions, -1 from counted order by circle_id, day
    on conflict (circle_id, day, part) do update
        set posts = known.posts + excluded.posts, comments = known.comments + excluded.comments,
            reactions = known.reactions + excluded.reactions, people = known.people + excluded.people),
totals as (
    insert into activity_totals as known (circle_id, part, comments, reactions)
    select circle_id, 2, -sum(comments), -sum(reactions) from counted group by circle_id order by circle_id
    on conflict (circle_id, part) do update
        set comments = known.comments + excluded.comments, reactions = known.reactions + excluded.reactions)
select from gone";

    const ACTORS: &str = "-- erasure::notification_actors, planned anew
delete from notification_actors where user_id = $1 and month = $2 and (notification_id, actor_id) <= (
    select notification_id, actor_id from (
        select notification_id, actor_id from notification_actors where user_id = $1 and month = $2
        order by notification_id, actor_id limit $3) next
    order by notification_id desc, actor_id desc limit 1)";

    const NOTIFICATIONS: &str = "-- erasure::notifications, planned anew
delete from notifications where user_id = $1 and month = $2 and id <= (
    select id from (select id from notifications where user_id = $1 and month = $2 order by id limit $3) next
    order by id desc limit 1)";

    /// Mails to the address: whoever has it since asked for theirs later.
    const MAILS: &str = "-- erasure::mails
delete from deliveries where channel = 'account-mail' and lower(about ->> 'address') = lower($1) and created_at < $2";

    const REGISTRATIONS: &str = "-- erasure::registrations
delete from registrations where id = any(array(
    select id from registrations where lower(email) = lower($1) and created_at < $2 limit 500))";
}

/// By the person `$1`, at most `$2` rows.
const OF_PERSON: &[&str] = &[
    DRAFTS,
    TAGS,
    VERSIONS,
    ENTRIES,
    FAVORITES,
    BLOCKS,
    MUTED,
    MOODS,
    ACTORS_GONE,
    COUNTS,
    MUTES,
    PREFERENCES,
    DEVICES,
    DELIVERIES,
    KEYS,
    SESSIONS,
    TOKENS,
    IDEMPOTENCY,
    INVITES,
    USED_INVITES,
    EXPORTS,
    PIECES,
    REPORTS,
    CASES,
    DECIDED,
    NAMES,
    WRITES,
    EVENTS,
];

/// By the person `$1`, of the month that begins on `$2`, at most `$3` rows.
const OF_MONTHS: &[&str] = &[NOTIFICATIONS, ACTORS, ACTIVITY];

/// Removes them all. Killed, it begins anew, and finds less.
pub async fn remove(ctx: &Ctx, person: &Person) -> Result<Left> {
    let user = person.user;
    let mut month = Month::of_id(user).plus(-1);
    while month <= Month::of(clock::now()).plus(1) {
        for sql in OF_MONTHS {
            while count(ctx, sql, &[&user, &month.first_day(), &AT_ONCE]).await? > 0 {}
            hooks::step("erasure.rows").await;
        }
        month = month.plus(1);
    }
    for sql in OF_PERSON {
        while count(ctx, sql, &[&user, &AT_ONCE]).await? > 0 {}
        hooks::step("erasure.rows").await;
    }
    if let Some(email) = &person.email {
        count(ctx, MAILS, &[email, &person.erased_at]).await?;
        while count(ctx, REGISTRATIONS, &[email, &person.erased_at]).await? > 0 {}
    }
    Ok(Left::Nothing)
}

/// What limits of log-ins know an address by.
pub fn digest_of(email: &str) -> String {
    hex(&Sha256::digest(email.to_lowercase()))
}

type Parameters<'a> = &'a [&'a (dyn tokio_postgres::types::ToSql + Sync)];

async fn count(ctx: &Ctx, sql: &'static str, parameters: Parameters<'_>) -> Result<u64> {
    let tx = optimist_plane::postgres::transaction::Tx::begin(&ctx.db).await?;
    let removed = tx.execute(sql, parameters).await;
    tx.end(removed).await
}
