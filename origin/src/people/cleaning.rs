//! The statements of the hourly jobs that delete sessions and tokens which are over, registrations that nobody confirmed, and counted
//! log-in attempts.
//!
//! No job deletes an account.

use optimist_plane::statements;

statements! {
    pub const CLEAN_SESSIONS: &str = "-- jobs::clean_sessions
with gone as (
    delete from sessions where ctid = any(array(
        select ctid from sessions where absolute_until < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

    pub const CLEAN_LOGIN_ATTEMPTS: &str = "-- jobs::clean_login_attempts
with gone as (
    delete from login_attempts where ctid = any(array(
        select ctid from login_attempts where attempted_at < now() - interval '1 day' limit $1))
    returning 1)
select count(*) from gone";

    pub const CLEAN_REGISTRATIONS: &str = "-- jobs::clean_registrations
with gone as (
    delete from registrations where ctid = any(array(
        select ctid from registrations where created_at < now() - interval '7 days' limit $1))
    returning 1)
select count(*) from gone";

    pub const CLEAN_TOKENS: &str = "-- jobs::clean_tokens
with gone as (
    delete from account_tokens where ctid = any(array(
        select ctid from account_tokens where expires_at < now() limit $1))
    returning 1)
select count(*) from gone";
}
