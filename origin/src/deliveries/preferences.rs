//! A person's preferences: kinds by channels, quiet hours, muted circles.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, NaiveTime, Utc};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match, json_response, to_json};
use optimist_plane::http::loaded::respond_object;
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::{Id, Moment, OrNull, Refused};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements, transaction};
use optimist_shared::etag::entity_tag;
use optimist_shared::ids::{self, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::deliveries::kinds::{Kinds, Masks};

/// As many as the circles that one is in.
const MUTES: usize = 500;

pub fn routes() -> Vec<Served> {
    vec![
        on("preferences.get", get)
            .says("What the caller is told of, where and when.")
            .notes(
                "`in_app` is the record, which the other channels deliver: a kind without it is told nowhere. Nothing leaves the \
                 application during quiet hours, by the caller's time zone, but waits for their end; nothing of a muted circle \
                 leaves it at all.",
            )
            .answers::<Preferences>(200)
            .tagged(),
        on("preferences.set", set)
            .says("Replace the caller's preferences.")
            .notes("Mutes that are over are dropped.")
            .takes::<NewPreferences>(example())
            .answers::<Preferences>(200)
            .tagged()
            .conditional(),
    ]
}

fn example() -> serde_json::Value {
    json!({"kinds": Kinds::of(Masks::default()), "quiet": {"from": "22:00", "to": "07:00"}, "mutes": []})
}

/// A time of the day: hours and minutes.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Clock(NaiveTime);

describe!(Clock, {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"});

impl TryFrom<String> for Clock {
    type Error = Refused;

    fn try_from(text: String) -> Result<Clock, Refused> {
        let is_whole = text.len() == 5 && text.bytes().filter(u8::is_ascii_digit).count() == 4;
        let time = is_whole.then(|| NaiveTime::parse_from_str(&text, "%H:%M").ok()).flatten();
        time.map(Clock).ok_or_else(|| Refused::new("must be a time of the day, as 22:30"))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetQuietHours")]
struct NewQuiet {
    from: Clock,
    to: Clock,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetMute")]
struct NewMute {
    circle_id: Id,
    until: Moment,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetPreferences")]
struct NewPreferences {
    kinds: Kinds,
    quiet: OrNull<NewQuiet>,
    #[schemars(length(max = 500))]
    mutes: Vec<NewMute>,
}

/// From one time of the day to another, which may be on the next.
#[derive(Serialize, JsonSchema)]
struct QuietHours {
    #[schemars(with = "Clock")]
    from: String,
    #[schemars(with = "Clock")]
    to: String,
}

#[derive(Serialize, JsonSchema)]
struct Mute {
    circle_id: Uuid,
    until: Time,
}

/// A person's preferences.
#[derive(Serialize, JsonSchema)]
struct Preferences {
    kinds: Kinds,
    quiet: Option<QuietHours>,
    mutes: Vec<Mute>,
}

statements! {
    const LOAD: &str = "-- preferences::load
select seen, p.version, p.in_app, p.push, p.email, p.webhook, p.quiet_from, p.quiet_to, m.circles, m.untils
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join notification_preferences p on p.user_id = $1
cross join lateral (
    select array_agg(circle_id order by circle_id) as circles, array_agg(until order by circle_id) as untils
    from notification_mutes where user_id = $1) m";

    const VERSION: &str = "-- preferences::version
select version from notification_preferences where user_id = $1 for update";

    const SET: &str = "-- preferences::set
insert into notification_preferences as p (user_id, in_app, push, email, webhook, quiet_from, quiet_to)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (user_id) do update set in_app = excluded.in_app, push = excluded.push, email = excluded.email,
    webhook = excluded.webhook, quiet_from = excluded.quiet_from, quiet_to = excluded.quiet_to, version = p.version + 1
returning version";

    const UNMUTE: &str = "-- preferences::unmute
delete from notification_mutes where user_id = $1";

    const MUTE: &str = "-- preferences::mute
insert into notification_mutes (user_id, circle_id, until)
select $1, circle_id, until from unnest($2::uuid[], $3::timestamptz[]) as m (circle_id, until)";

    /// E-mail is one of the places that a person is told at, while any kind goes there.
    const WITH_EMAIL: &str = "-- preferences::with_email
insert into push_tokens (user_id, id, channel, endpoint, verified_at) values ($1, $1, 'email', '', now())
on conflict do nothing";

    const WITHOUT_EMAIL: &str = "-- preferences::without_email
delete from push_tokens where user_id = $1 and id = $1";
}

async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    respond_object(&*read_through(&ctx, Key::preferences(caller.user)).await?, &headers)
}

async fn set(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<NewPreferences>,
) -> Result<Response> {
    let NewPreferences { kinds, quiet: OrNull(quiet), mutes } = body.value;
    if mutes.len() > MUTES {
        return Err(Error::invalid("mutes", format!("must be at most {MUTES}")));
    }
    let now = Utc::now();
    // The last of several for one circle.
    let mutes: BTreeMap<Uuid, DateTime<Utc>> = mutes
        .into_iter()
        .map(|mute| (mute.circle_id.0, mute.until.0))
        .filter(|(_, until)| *until > now)
        .collect();
    let (circles, untils): (Vec<Uuid>, Vec<DateTime<Utc>>) = mutes.into_iter().unzip();
    let (from, to) = quiet.map(|quiet| (quiet.from.0, quiet.to.0)).unzip();
    let masks = kinds.masks();
    let user = caller.user;
    let context = caller.writes("preferences::set", [user]);
    let row = transaction!(&ctx, context, |tx| {
        let before = tx.query_opt(VERSION, &[&user]).await?.map_or(0, |row| row.get(0));
        check_match(&headers, &entity_tag(&tagged_version(before, user), ""))?;
        let Masks { in_app, push, email, webhook } = masks;
        tx.query_one(SET, &[&user, &in_app, &push, &email, &webhook, &from, &to]).await?;
        tx.execute(UNMUTE, &[&user]).await?;
        if !circles.is_empty() {
            tx.execute(MUTE, &[&user, &circles, &untils]).await?;
        }
        tx.execute(if email == 0 { WITHOUT_EMAIL } else { WITH_EMAIL }, &[&user]).await?;
        tx.touch(Key::preferences(user));
        tx.event("preferences.set", serde_json::Value::Null);
        tx.query_one(LOAD, &[&user]).await
    })?;
    let (version, preferences) = read(&row);
    let tag = entity_tag(&tagged_version(version, user), "");
    Ok(json_response(200, Some(tag), to_json(&preferences)?))
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let user = id_of(&key, ids::Id::User)?;
    let row = ctx.db.query_opt(LOAD, &[&user]).await?;
    let row = row.ok_or_else(|| Error::internal("preferences", &"no row"))?;
    let (version, preferences) = read(&row);
    let version = tagged_version(version, user);
    Ok(Snapshot::new(row.get("seen"), Loaded::Object { version, json: to_json(&preferences)? }))
}

/// The version, 0 of the defaults.
fn read(row: &Row) -> (i64, Preferences) {
    let version: Option<i64> = row.get("version");
    let masks = version.map_or_else(Masks::default, |_| Masks {
        in_app: row.get("in_app"),
        push: row.get("push"),
        email: row.get("email"),
        webhook: row.get("webhook"),
    });
    let clock =
        |name: &str| row.get::<_, Option<NaiveTime>>(name).map(|time| time.format("%H:%M").to_string());
    let quiet = clock("quiet_from").zip(clock("quiet_to")).map(|(from, to)| QuietHours { from, to });
    let circles: Option<Vec<Uuid>> = row.get("circles");
    let untils: Option<Vec<DateTime<Utc>>> = row.get("untils");
    let mutes = circles.unwrap_or_default().into_iter().zip(untils.unwrap_or_default());
    let mutes = mutes.map(|(circle_id, until)| Mute { circle_id, until: Time(until) }).collect();
    (version.unwrap_or_default(), Preferences { kinds: Kinds::of(masks), quiet, mutes })
}

/// With the user's id, since everyone's preferences have the same address.
fn tagged_version(version: i64, user: Uuid) -> String {
    format!("{version}.({user})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_has_one_spelling() {
        let read = |text: &str| Clock::try_from(text.to_owned()).ok().map(|clock| clock.0);
        assert_eq!(read("22:30"), NaiveTime::from_hms_opt(22, 30, 0));
        assert_eq!(read("00:00"), NaiveTime::from_hms_opt(0, 0, 0));
        for wrong in ["24:00", "7:00", "07:60", "07:00:00", "+7:00", " 7:00", "", "0700", "zz:zz", "7 :00"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
