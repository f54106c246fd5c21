//! The people domain: accounts and log-ins, the mails about them, sessions, one's own account and what others see of it, administrators.

pub mod person;
pub mod me;
mod preferences;
pub mod recent;
mod auth;
mod turns;
mod passwords;
mod password;
pub mod letters;
mod verifying;
mod resetting;
mod moving;
mod devices;
mod login_limit;
pub mod secrets;
mod opening;
mod refresh;
mod ending;
pub mod session;
mod write_back;
mod cleaning;
pub mod admin;
mod suspending;
pub mod erasing;
pub mod blocking;
pub mod veil;
mod told;

use std::sync::Arc;
use std::time::Duration;

use crate::people::passwords::Passwords;
use optimist_plane::domain::{Domain, Job, Loader};
use optimist_plane::http::served::Served;
use optimist_plane::jobs::clean;
use optimist_plane::own::{HOUR, MINUTE};
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[
        ("auth", "Accounts and sessions: registering, logging in and out, refreshing."),
        ("me", "The caller's own account and limits."),
        ("sessions", "Where the caller is logged in."),
        ("recent", "What the caller has looked at lately. Redis alone holds it."),
        ("blocks", "People of whom nothing reaches the caller."),
        ("mutes", "People of whom the caller is not told."),
        ("users", "Other people."),
    ],
    statements: &[
        me::STATEMENTS,
        preferences::STATEMENTS,
        blocking::STATEMENTS,
        auth::STATEMENTS,
        password::STATEMENTS,
        letters::queue::STATEMENTS,
        letters::token::STATEMENTS,
        letters::sending::STATEMENTS,
        verifying::STATEMENTS,
        resetting::STATEMENTS,
        moving::STATEMENTS,
        login_limit::STATEMENTS,
        opening::STATEMENTS,
        refresh::STATEMENTS,
        ending::STATEMENTS,
        session::STATEMENTS,
        write_back::STATEMENTS,
        cleaning::STATEMENTS,
        admin::STATEMENTS,
        suspending::STATEMENTS,
        erasing::STATEMENTS,
    ],
    loaders: &[
        (Key::Session, Loader::Copy(|ctx, key| Box::pin(session::load_session(ctx, key)))),
        (Key::Me, Loader::Copy(|ctx, key| Box::pin(me::load_me(ctx, key)))),
        (Key::Profile, Loader::Copy(|ctx, key| Box::pin(me::load_profile(ctx, key)))),
        (Key::Blocked, Loader::Copy(|ctx, key| Box::pin(blocking::load(ctx, key)))),
        (Key::PersonalPreferences, Loader::Copy(|ctx, key| Box::pin(preferences::load(ctx, key)))),
    ],
    told: told::TOLD,
    rights: told::RIGHTS,
    jobs: JOBS,
    audits: &[(Key::Session, |ctx, suspect| Box::pin(session::compare(ctx, suspect)))],
    channels: &[letters::sending::MAILS],
    key_rings: &[secrets::TOKEN_KEYS],
    ..Domain::new("people")
};

fn routes() -> Vec<Served> {
    let passwords = Arc::new(Passwords::default());
    let routes = [
        auth::routes(&passwords),
        refresh::routes(),
        me::routes(),
        preferences::routes(),
        blocking::routes(),
        recent::routes(),
        password::routes(&passwords),
        verifying::routes(),
        resetting::routes(&passwords),
        moving::routes(&passwords),
        ending::routes(),
        suspending::routes(),
        erasing::routes(&passwords),
    ];
    routes.into_iter().flatten().collect()
}

#[rustfmt::skip] // One line a row.
const JOBS: &[Job] = &[
    // Well within the five minutes between two notes of a session.
    Job { name: "sessions.write-back", what: "tells Postgres of sessions in use", every: Duration::from_secs(30), run: |ctx| Box::pin(write_back::write_back(ctx)) },
    Job { name: "sessions.clean", what: "removes sessions that ended a day ago", every: HOUR, run: |ctx| Box::pin(clean(ctx, cleaning::CLEAN_SESSIONS)) },
    // A log-in does not wait for it: what else shows the account does.
    Job { name: "suspensions.end", what: "restores accounts whose suspension is over", every: MINUTE, run: |ctx| Box::pin(suspending::end(ctx)) },
    Job { name: "log-ins.clean", what: "removes counted log-in attempts after a day", every: HOUR, run: |ctx| Box::pin(clean(ctx, cleaning::CLEAN_LOGIN_ATTEMPTS)) },
    Job { name: "registrations.clean", what: "removes registrations that nobody confirmed within a week", every: HOUR, run: |ctx| Box::pin(clean(ctx, cleaning::CLEAN_REGISTRATIONS)) },
    Job { name: "account-tokens.clean", what: "removes tokens of mails that are not good any more", every: HOUR, run: |ctx| Box::pin(clean(ctx, cleaning::CLEAN_TOKENS)) },
];
