//! People: accounts and log-ins, sessions, one's own account and what others see of it, administrators.

pub mod admin;
pub mod auth;
mod login_limit;
pub mod me;
mod passwords;
pub mod person;
mod refresh;
pub mod session;
mod write_back;

use std::time::Duration;

use optimist_plane::domain::{Domain, Job, Loader};
use optimist_plane::http::served::Served;
use optimist_plane::jobs::clean;
use optimist_plane::own::HOUR;
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[
        admin::STATEMENTS,
        auth::STATEMENTS,
        login_limit::STATEMENTS,
        me::STATEMENTS,
        session::STATEMENTS,
        write_back::STATEMENTS,
        &[CLEAN_SESSIONS, CLEAN_LOGIN_ATTEMPTS],
    ],
    loaders: &[
        (Key::Session, Loader::Copy(|app, parameters| Box::pin(session::load_session(app, parameters)))),
        (Key::Me, Loader::Copy(|app, parameters| Box::pin(me::load_me(app, parameters)))),
        (Key::Profile, Loader::Copy(|app, parameters| Box::pin(me::load_profile(app, parameters)))),
    ],
    jobs: JOBS,
    audits: &[(Key::Session, |app, suspect| Box::pin(session::compare(app, suspect)))],
    key_rings: &[auth::TOKEN_KEYS],
    ..Domain::new("people")
};

fn routes() -> Vec<Served> {
    [auth::routes(), me::routes()].into_iter().flatten().collect()
}

#[rustfmt::skip] // One line a row.
const JOBS: &[Job] = &[
    // Well within the five minutes between two notes of a session.
    Job { name: "sessions.write-back", what: "tells Postgres of sessions in use", every: Duration::from_secs(30), run: |app| Box::pin(write_back::write_back(app)) },
    Job { name: "sessions.clean", what: "removes sessions that ended a day ago", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_SESSIONS)) },
    Job { name: "log-ins.clean", what: "removes counted log-in attempts after a day", every: HOUR, run: |app| Box::pin(clean(app, CLEAN_LOGIN_ATTEMPTS)) },
];

const CLEAN_SESSIONS: &str = "-- jobs::clean_sessions
with gone as (
    delete from sessions where ctid = any(array(
        select ctid from sessions where absolute_until < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

const CLEAN_LOGIN_ATTEMPTS: &str = "-- jobs::clean_login_attempts
with gone as (
    delete from login_attempts where ctid = any(array(
        select ctid from login_attempts where attempted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";
