//! The scripts of requests to join a circle. [`crate::joins`] has the bounds.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Uuid, parse_id};
use crate::joins::REQUEST_MS;
use crate::keys::Key;
use crate::quotas::Quota;

pub static ASK_JOIN: Script = script!("ask_join": "clock_core.lua", "ask_join.lua");
pub static LIST_JOINS: Script = script!("list_joins": "clock_core.lua", "list_joins.lua");

/// Requests that are forgotten at once.
const AT_ONCE: u64 = 100;

/// The outcome of asking, with the milliseconds that the request still lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    New(u64),
    /// There was one, and it stays as it was.
    Known(u64),
    /// The circle holds as many as it may.
    Full,
}

/// A request as Redis holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub user: Uuid,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub text: String,
}

fn keys(circle: Uuid) -> [String; 2] {
    [Key::join_requests(circle), Key::join_texts(circle)].map(|key| key.name())
}

pub fn ask(circle: Uuid, user: Uuid, text: &str) -> Call<'_> {
    let most = Quota::JoinRequests.row().most;
    let call = Call::new(&ASK_JOIN).keys(keys(circle)).text(user.to_string()).text(text);
    call.number(REQUEST_MS).number(most).number(AT_ONCE)
}

/// `None` if the reply is malformed.
pub fn asked(reply: &mut impl Scalars) -> Option<Asked> {
    Some(match (reply.text().as_str(), reply.count()) {
        ("asked", left_ms) => Asked::New(left_ms),
        ("known", left_ms) => Asked::Known(left_ms),
        ("full", _) => Asked::Full,
        _ => return None,
    })
}

/// The next requests after a place: when, and whose. From the first with 0 and the nil id.
pub fn list(circle: Uuid, after: (u64, Uuid), wanted: usize) -> Call<'static> {
    let most = Quota::JoinRequests.row().most;
    let call = Call::new(&LIST_JOINS).keys(keys(circle)).number(REQUEST_MS).number(most);
    call.number(wanted as u64).number(after.0).text(after.1.to_string())
}

pub fn listed(reply: &mut impl Scalars) -> Vec<Request> {
    std::iter::from_fn(|| {
        Some(Request { user: parse_id(&reply.text())?, at_ms: reply.count(), text: reply.text() })
    })
    .collect()
}
