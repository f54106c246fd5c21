//! Erasing one's account: what happens before the answer. [`crate::erasure`] does the rest within the hour.
//!
//! The account's row stays, since messages that are kept are by it, and says nothing of the person any more. With it go, in the same
//! transaction, the key that the journal is sealed with, the devices that are told, and the e-mail address, which is free at once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::http::body::Body;
use optimist_plane::http::sent::{Refused, Secret};
use optimist_plane::http::served::{Served, on_with};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{Caller, RequestContext, WriteContext};
use optimist_plane::{describe, statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_shared::scripts::presence;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::people::ending::Ending;
use crate::people::password::{TypedPassword, check_password};
use crate::people::passwords::{Hashing, Passwords};

pub fn routes(passwords: &Arc<Passwords>) -> Vec<Served> {
    let passwords = passwords.clone();
    let hashing = move |ctx: &Ctx| Hashing { ctx: ctx.clone(), passwords };
    vec![
        on_with("me.erase", erase, hashing)
            .says("Erase the account.")
            .notes(
                "From the answer on no session of it is good, nobody finds it, its journal cannot be read, and its e-mail address is free. \
                 Within the hour the rest goes: journal, moods, reactions, memberships, notifications. `messages` says whether what it \
                 has posted stays, as by a deleted account, or is deleted. Circles that it owns pass to a moderator or else a member, \
                 whoever has been there longest; one without other members is archived. Archived months follow within 30 days. Nothing \
                 of it can be undone.",
            )
            .takes::<Erase>(json!({"password": "correct horse battery", "messages": "remove"}))
            .accepts()
            .refuses(&[ErrorCode::Conflict]),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EraseMe")]
struct Erase {
    password: TypedPassword,
    /// What becomes of the messages that the account has posted.
    messages: Messages,
}

/// What becomes of an erased account's messages, as requests write it.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Messages {
    are_kept: bool,
}

describe!(Messages, {"type": "string", "enum": ["keep", "remove"]});

impl TryFrom<String> for Messages {
    type Error = Refused;

    fn try_from(text: String) -> Result<Messages, Refused> {
        match text.as_str() {
            "keep" => Ok(Messages { are_kept: true }),
            "remove" => Ok(Messages { are_kept: false }),
            _ => Err(Refused::new("must be `keep` or `remove`")),
        }
    }
}

statements! {
    const LOCK: &str = "-- erasing::lock
select email, status = 'erased' from users where id = $1 for no key update";

    /// Unless the password has changed meanwhile, or the session that asks was ended.
    const STANDS: &str = "-- erasing::stands
select from users join sessions on sessions.id = $3 and user_id = users.id and revoked_at is null
where users.id = $1 and password_version = $2";

    /// No address has the form of this one, and no password this hash.
    const ERASE: &str = "-- erasing::erase
update users set email = 'erased ' || id, password_hash = '', password_version = password_version + 1, name = $2, bio = '',
    time_zone = 'UTC', locale = 'en', week_start = 'monday', presence_to = 'nobody', discoverable = false, reduced_motion = false,
    status = 'erased', role = 'user', email_verified_at = null, suspended_until = null, suspension_reason = null,
    version = version + 1, preferences_version = preferences_version + 1, updated_at = now()
where id = $1";

    /// Someone may be on the list already: the store's, which a database of before has learnt.
    const LIST: &str = "-- erasing::list
insert into erased as known (user_id, keeps_messages, email) values ($1, $2, $3)
on conflict (user_id) do update set email = excluded.email, step = 0, after = null, done_at = null";

    const FORGET_KEY: &str = "-- erasing::forget_key
delete from journal_keys where user_id = $1";

    /// A person has few.
    const FORGET_DEVICES: &str = "-- erasing::forget_devices
delete from push_tokens where user_id = $1";

    /// The person's next circles, whose copies show the name.
    const SHOWN: &str = "-- erasing::shown
select circle_id from memberships where user_id = $1 and role <> 'banned' and circle_id > $2 order by circle_id limit $3";
}

/// The name that kept messages are by.
const NAME: &str = "Deleted account";
/// Circles whose copies one transaction drops: three keys each.
const CIRCLES: i64 = 150;

async fn erase(
    State(Hashing { ctx, passwords }): State<Hashing>,
    caller: Caller,
    body: Body<Erase>,
) -> Result<Response> {
    let Erase { password: Secret(password), messages } = body.value;
    let fits = check_password(&ctx, &passwords, &caller, password).await?;
    let version = fits.ok_or_else(|| Error::invalid("password", "is not the password"))?;
    let erasure =
        Erasure { user: caller.user, keeps_messages: messages.are_kept, by: Some((&caller, version)) };
    erasure.begin(&ctx, &caller.request).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// An erasure of an account, which begins.
pub struct Erasure<'a> {
    pub user: Uuid,
    pub keeps_messages: bool,
    /// Its owner, and the version of the password that they know. Without them the operator does it, or the job.
    pub by: Option<(&'a Caller, i64)>,
}

impl Erasure<'_> {
    /// Erases the account itself, ends its sessions, and hides its name, in steps. It may be cut off, and called again. Returns whether
    /// there is such an account.
    pub async fn begin(&self, ctx: &Ctx, request: &RequestContext) -> Result<bool> {
        let mut after = Some(Uuid::nil());
        loop {
            let actor = self.by.and_then(|(caller, _)| caller.actor());
            let context = WriteContext::new("erasing::erase", request, actor, vec![self.user]);
            let step = transaction!(ctx, context, |tx| { self.step(tx, after).await })?;
            hooks::step("erasing.begun").await;
            match step {
                None => return Ok(false),
                Some(Step { next: None, is_done: true }) => break,
                Some(Step { next, .. }) => after = next,
            }
        }
        let mut forget = ::redis::cmd("DEL");
        forget.arg(Key::journal_key(self.user).name());
        // Without Redis the job forgets it, and circles are told within minutes.
        let _ = ctx.redis.send([forget]).await;
        let _ = ctx.redis.call_one(&presence::renew(self.user)).await;
        Ok(true)
    }

    /// `after` is the last circle whose copies were dropped; `None` if all were.
    async fn step(&self, tx: &mut Tx, after: Option<Uuid>) -> Result<Option<Step>> {
        let Erasure { user, keeps_messages, by } = self;
        let Some(row) = tx.query_opt(LOCK, &[user]).await? else {
            tx.unchanged();
            return Ok(None);
        };
        let is_new = !row.get::<_, bool>(1);
        if is_new {
            if let Some((caller, version)) = by
                && tx.query_opt(STANDS, &[user, version, &caller.session]).await?.is_none()
            {
                let detail = "The password was changed, or this session was ended, at the same time.";
                return Err(Error::new(ErrorCode::Conflict).detail(detail));
            }
            tx.execute(ERASE, &[user, &NAME]).await?;
            tx.execute(LIST, &[user, keeps_messages, &row.get::<_, String>(0)]).await?;
            tx.execute(FORGET_KEY, &[user]).await?;
            tx.execute(FORGET_DEVICES, &[user]).await?;
            tx.event("account.erased", json!({"user": user, "keeps_messages": keeps_messages}));
        }
        let ended = Ending { user: *user, family: None, asking: None, but_asking: false }.step(tx).await?;
        let shown = match after {
            Some(after) => tx.query(SHOWN, &[user, &after, &CIRCLES]).await?,
            None => Vec::new(),
        };
        let circles: Vec<Uuid> = shown.iter().map(|row| row.get(0)).collect();
        if !is_new && ended.sessions == 0 && circles.is_empty() {
            tx.unchanged();
        }
        for circle in &circles {
            tx.touch(Key::circle_members(*circle));
            tx.touch(Key::circle_messages(*circle));
            tx.touch(Key::circle_head(*circle));
        }
        for key in [
            Key::me,
            Key::profile,
            Key::personal_preferences,
            Key::preferences,
            Key::push_tokens,
            Key::my_circles,
            Key::recent_tags,
            Key::streak,
        ] {
            tx.touch(key(*user));
        }
        let next = circles.last().copied().filter(|_| circles.len() as i64 == CIRCLES);
        Ok(Some(Step { next, is_done: ended.is_done }))
    }
}

/// What is left after a step.
struct Step {
    /// The last circle whose copies it dropped, if there may be more.
    next: Option<Uuid>,
    /// Every session has ended.
    is_done: bool,
}
