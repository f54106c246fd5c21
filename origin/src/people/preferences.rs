//! How a person wants the product to be: language, weeks, who sees whether they are there, whether they are found, motion.
//!
//! What somebody is told of, where and when, are the deliveries' preferences. The language is also a part of the account, which
//! [`super::me`] shows.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::Snapshot;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::{Body, check_match, json_response, to_json};
use optimist_plane::http::loaded::respond_object;
use optimist_plane::http::page::no_query;
use optimist_plane::http::sent::Refused;
use optimist_plane::http::served::{Served, on};
use optimist_plane::request::Caller;
use optimist_plane::{describe, statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::etag::entity_tag;
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::scripts::presence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;

use crate::people::letters::locale::Locale;
use crate::people::me::{load_object, tagged_version};

pub fn routes() -> Vec<Served> {
    vec![
        on("me.preferences", get)
            .says("How the product is for the caller.")
            .notes(
                "`locale` is the language of mails and of lines that leave the application, and stands in the account too. While \
                 `presence` is `nobody`, others see `offline`. People find those by name who are `discoverable`. Clients obey \
                 `week_start` and `reduced_motion`.",
            )
            .answers::<Preferences>(200)
            .tagged(),
        on("me.set-preferences", set)
            .says("Replace how the product is for the caller.")
            .takes::<NewPreferences>(json!({
                "locale": "de", "week_start": "monday", "presence": "circles", "discoverable": false, "reduced_motion": true,
            }))
            .answers::<Preferences>(200)
            .tagged()
            .conditional(),
    ]
}

/// The day that a person's weeks begin with.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct WeekStart(String);

describe!(WeekStart, {"type": "string", "enum": ["monday", "saturday", "sunday"]});

impl TryFrom<String> for WeekStart {
    type Error = Refused;

    fn try_from(text: String) -> Result<WeekStart, Refused> {
        match text.as_str() {
            "monday" | "saturday" | "sunday" => Ok(WeekStart(text)),
            _ => Err(Refused::new("must be `monday`, `saturday` or `sunday`")),
        }
    }
}

/// Who sees whether a person is there: those who share a circle, or nobody.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct SeenBy(String);

describe!(SeenBy, {"type": "string", "enum": ["circles", "nobody"]});

impl TryFrom<String> for SeenBy {
    type Error = Refused;

    fn try_from(text: String) -> Result<SeenBy, Refused> {
        match text.as_str() {
            "circles" | "nobody" => Ok(SeenBy(text)),
            _ => Err(Refused::new("must be `circles` or `nobody`")),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetPersonalPreferences")]
struct NewPreferences {
    locale: Locale,
    week_start: WeekStart,
    presence: SeenBy,
    discoverable: bool,
    reduced_motion: bool,
}

/// A person's preferences.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PersonalPreferences")]
struct Preferences {
    #[schemars(with = "Locale")]
    locale: String,
    #[schemars(with = "WeekStart")]
    week_start: String,
    #[schemars(with = "SeenBy")]
    presence: String,
    /// Whether people find the person by name.
    discoverable: bool,
    reduced_motion: bool,
}

impl Preferences {
    /// From: locale, week_start, presence_to, discoverable, reduced_motion.
    fn from_row(row: &Row) -> Preferences {
        Preferences {
            locale: row.get("locale"),
            week_start: row.get("week_start"),
            presence: row.get("presence_to"),
            discoverable: row.get("discoverable"),
            reduced_motion: row.get("reduced_motion"),
        }
    }
}

statements! {
    const LOAD: &str = "-- me::load_preferences
select seen, u.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select locale, week_start, presence_to, discoverable, reduced_motion, preferences_version as version
    from users where id = $1) u on true";

    const LOCK: &str = "-- me::lock_preferences
select preferences_version, locale, presence_to from users where id = $1 and status <> 'erased' for no key update";

    /// The account shows its language too.
    const SET: &str = "-- me::set_preferences
update users set week_start = $3, presence_to = $4, discoverable = $5, reduced_motion = $6,
    preferences_version = preferences_version + 1, locale = $2,
    version = version + (locale <> $2)::integer, updated_at = case when locale <> $2 then now() else updated_at end
where id = $1
returning locale, week_start, presence_to, discoverable, reduced_motion, preferences_version as version";
}

async fn get(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    no_query(uri.query())?;
    respond_object(&*read_through(&ctx, Key::personal_preferences(caller.user)).await?, &headers)
}

async fn set(
    State(ctx): State<Ctx>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<NewPreferences>,
) -> Result<Response> {
    let NewPreferences { locale, week_start, presence: seen_by, discoverable, reduced_motion } = body.value;
    let (WeekStart(week_start), SeenBy(seen_by)) = (week_start, seen_by);
    let (user, locale) = (caller.user, locale.as_str());
    let context = caller.writes("me::set_preferences", [user]);
    let (row, is_seen_otherwise) = transaction!(&ctx, context, |tx| {
        let before = tx.query_opt(LOCK, &[&user]).await?;
        let before = before.ok_or_else(|| Error::new(ErrorCode::Unauthenticated))?;
        let tag = entity_tag(&tagged_version(before.get("preferences_version"), user), "");
        check_match(&headers, &tag)?;
        let row = tx
            .query_one(SET, &[&user, &locale, &week_start, &seen_by, &discoverable, &reduced_motion])
            .await?;
        if before.get::<_, &str>("locale") != locale {
            tx.touch(Key::me(user));
        }
        tx.touch(Key::personal_preferences(user));
        tx.event("user.preferences", json!({"user": user}));
        Ok((row, before.get::<_, &str>("presence_to") != seen_by))
    })?;
    if is_seen_otherwise {
        // Who asks is answered by Postgres. Circles that Redis does not hear of now are told within minutes.
        let _ = ctx.redis.call_one(&presence::renew(user)).await;
    }
    let tag = entity_tag(&tagged_version(row.get("version"), user), "");
    Ok(json_response(200, Some(tag), to_json(&Preferences::from_row(&row))?))
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    load_object(ctx, LOAD, key, |row| to_json(&Preferences::from_row(row))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_audiences_have_one_spelling() {
        let is_day = |text: &str| WeekStart::try_from(text.to_owned()).is_ok();
        let is_audience = |text: &str| SeenBy::try_from(text.to_owned()).is_ok();
        assert!(["monday", "saturday", "sunday"].into_iter().all(is_day));
        assert!(["circles", "nobody"].into_iter().all(is_audience));
        assert!(!is_day("Monday") && !is_day("friday") && !is_audience("everyone") && !is_audience(""));
    }
}
