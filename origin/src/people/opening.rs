//! Opening a session in Postgres, for a log-in or as the successor of another, and the answer that carries its tokens.
//!
//! Nothing is written to Redis: the session's first request misses there, and the origin installs it. Whoever opens one is
//! charged first, and makes room for it: a person has a bounded number.

use chrono::{DateTime, Utc};
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_shared::limits::Limit;
use optimist_shared::scripts::limit::Charge;
use optimist_shared::session::{Token, hash_secret};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Row;

use crate::people::secrets::{RefreshToken, Secrets, TOKEN_KEYS};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::limits::charge::charge_all;
use optimist_plane::operation::links::{Link, link};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::RequestContext;
use optimist_plane::statements;

/// A session that was opened.
#[derive(Serialize, JsonSchema)]
pub struct Refreshed {
    session: OpenedSession,
    refresh_token: String,
}

#[derive(Serialize, JsonSchema)]
struct OpenedSession {
    token: String,
    /// Seconds until it is over if it stays idle.
    #[schemars(range(min = 0))]
    expires_in: i64,
}

impl Refreshed {
    pub fn new(user: Uuid, session: Uuid, secrets: &Secrets, expires_in: i64) -> Refreshed {
        let token = Token { user, session, secret: secrets.session };
        Refreshed {
            session: OpenedSession { token: token.render(), expires_in },
            refresh_token: RefreshToken { session, secret: secrets.refresh }.render(),
        }
    }
}

/// The link from an answer with a refresh token to the refresh that takes it.
pub fn refresh_link() -> Link {
    link("auth.refresh", &[]).with_body(&[("refresh_token", "$response.body#/refresh_token")])
}

statements! {
    /// `for share`: a revocation of all of a user's sessions locks the row `for update`, so it sees this session or prevents it.
    const LOCK_USER: &str = "-- auth::lock_user
select id, email, name, bio, time_zone, locale, email_verified_at, version, created_at, updated_at, password_version
from users where id = $1 and status = 'active' for share";

    const INSERT_SESSION: &str = "-- auth::insert_session
insert into sessions
    (id, user_id, family, parent, secret_hash, refresh_hash, token_key, idle_until, absolute_until, user_agent)
values ($1, $2, $3, $4, $5, $6, $7, least(now() + interval '30 minutes', coalesce($8, now() + interval '30 days')),
        coalesce($8, now() + interval '30 days'), $9)
returning floor(extract(epoch from idle_until - now()))::bigint";

    /// Ends the oldest of a person's sessions beyond the newest `$2`. Each opening ends one; more are left from releases that
    /// had no such bound.
    const END_OLDEST: &str = "-- auth::end_oldest
update sessions set revoked_at = now() where id = any(array(
    select id from sessions where user_id = $1 and revoked_at is null order by created_at desc, id desc offset $2 limit 500))
returning id";
}

/// How many sessions a person has at once: more devices than anyone owns, with what each has just refreshed from.
const MOST_SESSIONS: i64 = 50;

/// Charges the opening of a session to its user and, if it succeeds another, to their log-in. `entry` names the attempt: its
/// repetition is not charged.
pub async fn charge_opening(ctx: &Ctx, user: Uuid, family: Option<Uuid>, entry: Uuid) -> Result<()> {
    let user = user.to_string();
    let mut charge = Charge::new(vec![Limit::Sessions.row()], &user, entry.simple().to_string());
    if let Some(family) = family {
        let row = Limit::RefreshFamily.row();
        charge.rows.push(row);
        charge.keys.push(row.key_of_part(&user, &family.to_string()));
    }
    charge_all(ctx, charge).await.map(drop)
}

/// Ends the oldest of a person's sessions, if there are too many.
pub async fn end_oldest(tx: &mut Tx, user: Uuid) -> Result<()> {
    for row in tx.query(END_OLDEST, &[&user, &MOST_SESSIONS]).await? {
        tx.touch(Key::session(user, row.get(0)));
    }
    Ok(())
}

/// The row of the user whose session is opened, locked until the transaction ends. `None` unless the account is active.
pub async fn lock_user(tx: &Tx, user: Uuid) -> Result<Option<Row>> {
    tx.query_opt(LOCK_USER, &[&user]).await
}

/// A session about to be opened.
pub struct NewSession {
    pub id: Uuid,
    pub user: Uuid,
    /// The first session of its log-in.
    pub family: Uuid,
    /// The session that it succeeds.
    pub parent: Option<Uuid>,
    /// When it ends however busy it is; a family's sessions end together, 30 days after the first was opened.
    pub absolute_until: Option<DateTime<Utc>>,
    pub secrets: Secrets,
    /// The server key that its secrets were derived with, if they were.
    pub token_key: String,
}

impl NewSession {
    /// The first of its family.
    pub fn random(ctx: &Ctx, user: Uuid) -> Result<NewSession> {
        let token_key = ctx.config.keys(TOKEN_KEYS).first.clone();
        let id = Uuid::now_v7();
        let secrets = Secrets::random()?;
        Ok(NewSession { id, user, family: id, parent: None, absolute_until: None, secrets, token_key })
    }

    /// Inserts it, and returns the client's answer.
    pub async fn open(&self, tx: &Tx, request: &RequestContext) -> Result<Refreshed> {
        let NewSession { id, user: owner, family, parent, absolute_until, secrets, token_key } = self;
        let (session_hash, refresh_hash) = (hash_secret(&secrets.session), hash_secret(&secrets.refresh));
        let row = tx
            .query_one(
                INSERT_SESSION,
                &[
                    id,
                    owner,
                    family,
                    parent,
                    &session_hash,
                    &refresh_hash,
                    token_key,
                    absolute_until,
                    &request.user_agent,
                ],
            )
            .await?;
        Ok(Refreshed::new(*owner, *id, secrets, row.get(0)))
    }
}
