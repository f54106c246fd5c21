//! The growth table: what each write leaves in the stores. With the limits it says how much one caller's day can add, which
//! `docs/policies.md` prints. Sizes are upper bounds of rows and keys, without indexes; a test compares them with the stores.
//! Events in the streams are not among them: a partition's stream keeps those of ten minutes, whoever writes.
//!
//! It does not bound anything: limits and quotas do.

use crate::limits::{LimitRow, Scope};
use crate::routes::{Method, ROUTES, Route};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The route's name.
    pub route: &'static str,
    pub postgres: Left,
    pub redis: Left,
}

/// What a request leaves in a store. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Each request leaves so much, for a day or longer.
    pub each: u64,
    /// However many requests there are, so much stays.
    pub within: u64,
    /// What `within` is about; empty if it is nothing.
    pub of: &'static str,
}

const KIB: u64 = 1024;

/// The outbox's row, kept for a day, with the request's record in the audit trail.
const EVENT: u64 = 640;
/// A mail's delivery, kept for a week, and its token.
const MAIL: u64 = 2 * KIB;
/// An idempotency record, kept for a day.
const RECORD: u64 = 400;
/// An entry of a limit, kept as long as its longest window.
const LIMIT: u64 = 256;
/// A list page, with its envelope and one item that exceeds it.
const PAGE: u64 = 320 * KIB;
/// The ids that a text may name, in the outbox's row.
const NAMED: u64 = 9 * KIB;
/// The longest message, in UTF-8.
const MESSAGE: u64 = 33 * KIB;
/// The longest entry, and the longest draft, sealed.
const ENTRY_TEXT: u64 = 208 * KIB;
const FORMER_TEXTS: u64 = 20;
/// A circle's name, description and rules.
const CIRCLE: u64 = 42 * KIB;
const DRAFTS: u64 = 4 * KIB * KIB;
/// A hundred messages that are being composed, of 8 KiB each, with their keys.
const MESSAGE_DRAFTS: u64 = 832 * KIB;

const fn each(bytes: u64) -> Left {
    Left { each: bytes, within: 0, of: "" }
}

const fn within(bytes: u64, of: &'static str, each: u64) -> Left {
    Left { each, within: bytes, of }
}

/// A report, with the message as it was, and what fifty moderators are told.
const REPORT: u64 = MESSAGE + 19 * KIB;

const fn row(route: &'static str, postgres: Left, redis: Left) -> Growth {
    Growth { route, postgres, redis }
}

/// The table: one row for each route that changes something.
#[rustfmt::skip] // One line a row.
pub const GROWTH: &[Growth] = &[
    row("auth.register", each(2 * KIB + MAIL + EVENT), each(2 * KIB)),
    row("auth.verify", each(4 * KIB + EVENT), each(2 * KIB)),
    row("auth.verify-resend", each(MAIL), each(3 * LIMIT)),
    row("auth.password-forgot", each(MAIL), each(3 * LIMIT)),
    row("auth.password-reset", each(2 * EVENT), each(LIMIT)),
    row("auth.login", within(50 * KIB, "a person's sessions", 1_200 + EVENT), each(2 * KIB)),
    row("auth.refresh", each(1_200 + EVENT), each(2 * KIB)),
    row("auth.logout", each(EVENT), each(LIMIT)),
    row("me.update", within(6 * KIB, "a person", EVENT), within(16 * KIB, "a person", LIMIT)),
    row("me.set-preferences", within(256, "a person", EVENT), within(2 * KIB, "a person", LIMIT)),
    row("me.password", each(EVENT), each(LIMIT)),
    row("me.erase", each(EVENT + 512), each(LIMIT)),
    row("me.email", each(MAIL + EVENT), each(3 * LIMIT)),
    // A day long: what the person has, once more.
    row("me.export", within(1_100 * KIB * KIB, "a person's export", KIB + EVENT), within(KIB, "a person", LIMIT)),
    // A hundred names of a message and its circle.
    row("recent.note", each(0), within(24 * KIB, "a person", LIMIT)),
    row("sessions.revoke-others", each(EVENT), each(LIMIT)),
    row("sessions.revoke", each(EVENT), each(LIMIT)),
    row("circles.create", each(CIRCLE + KIB + EVENT + RECORD), each(LIMIT)),
    row("circles.update", within(CIRCLE, "a circle", EVENT), within(2 * CIRCLE, "a circle", LIMIT)),
    row("circles.archive", each(EVENT), each(LIMIT)),
    row("circles.restore", each(EVENT), each(LIMIT)),
    row("members.join", each(KIB + EVENT + RECORD), within(PAGE, "a circle's list", LIMIT)),
    row("members.leave", each(EVENT), each(LIMIT)),
    row("members.update", each(KIB + EVENT), each(LIMIT)),
    row("members.remove", each(EVENT), each(LIMIT)),
    row("ownership.offer", within(128, "a circle", EVENT), each(LIMIT)),
    row("ownership.withdraw", each(EVENT), each(LIMIT)),
    row("ownership.accept", each(EVENT), each(LIMIT)),
    row("invites.create", within(200 * KIB, "a circle", 1_200 + EVENT), each(LIMIT)),
    row("invites.revoke", each(EVENT), each(LIMIT)),
    row("bans.lift", each(EVENT), each(LIMIT)),
    row("joins.ask", each(0), within(2 * KIB, "a person in a circle", LIMIT)),
    row("joins.withdraw", each(0), each(LIMIT)),
    row("joins.approve", each(KIB + EVENT), within(PAGE, "a circle's list", LIMIT)),
    row("joins.decline", each(EVENT), each(LIMIT)),
    row("messages.post", each(MESSAGE + EVENT + RECORD), within(PAGE, "a circle's list", LIMIT)),
    // With a longer row of the message that it belongs to, which grows by its followers.
    row("comments.post", each(MESSAGE + KIB + EVENT + RECORD), within(2 * PAGE + MESSAGE, "a circle's lists", LIMIT)),
    row("reports.make", within(1_000 * REPORT, "a person's reports", EVENT), each(LIMIT)),
    row("reports.decide", each(KIB + EVENT), each(LIMIT)),
    row("messages.edit", within(MESSAGE, "a message", EVENT + NAMED), within(PAGE, "a circle's list", LIMIT)),
    row("messages.delete", each(EVENT + NAMED), each(LIMIT)),
    row("reactions.add", each(KIB), each(KIB)),
    row("reactions.remove", each(KIB), each(KIB)),
    row("unread.mark", within(128, "a person in a circle", 0), within(3 * KIB, "a person in a circle", 512)),
    row("blocks.add", within(160 * KIB, "a person", EVENT), within(40 * KIB, "a person", LIMIT)),
    row("blocks.lift", each(EVENT), each(LIMIT)),
    row("mutes.add", within(160 * KIB, "a person", EVENT), each(LIMIT)),
    row("mutes.lift", each(EVENT), each(LIMIT)),
    row("favorites.add", within(625 * KIB, "a person", EVENT), each(LIMIT)),
    row("favorites.remove", each(EVENT), each(LIMIT)),
    row("visits.record", within(512, "a person in a circle", 0), each(512)),
    row("presence.say", each(0), within(64 * KIB, "a person", LIMIT)),
    row("presence.type", each(0), within(16 * KIB, "a circle", LIMIT)),
    row("message-drafts.save", each(0), within(MESSAGE_DRAFTS, "a person", LIMIT)),
    row("message-drafts.discard", each(0), each(LIMIT)),
    row("notifications.read", each(EVENT), each(LIMIT)),
    row("notifications.read-all", each(EVENT), each(LIMIT)),
    row("preferences.set", within(64 * KIB, "a person", EVENT), within(80 * KIB, "a person", LIMIT)),
    row("push-tokens.add", within(40 * KIB, "a person", KIB + EVENT), within(16 * KIB, "a person", LIMIT)),
    row("push-tokens.remove", each(EVENT), each(LIMIT)),
    row("drafts.save", within(2 * DRAFTS, "a person", 0), within(2 * DRAFTS, "a person", LIMIT)),
    row("drafts.discard", each(EVENT), each(LIMIT)),
    row("journal.save", each(ENTRY_TEXT + 4 * KIB + EVENT + RECORD), each(LIMIT)),
    row("journal.edit", within((1 + FORMER_TEXTS) * ENTRY_TEXT, "an entry", EVENT), each(LIMIT)),
    row("journal.delete", each(EVENT), each(LIMIT)),
    row("mood.log", each(8 * KIB + EVENT + RECORD), each(LIMIT)),
    row("mood.edit", within(8 * KIB, "a mood", EVENT), each(LIMIT)),
    row("mood.delete", each(EVENT), each(LIMIT)),
];

impl Growth {
    /// The row of a route, if it changes something for other than administrators.
    pub fn of(route: &Route) -> Option<&'static Growth> {
        GROWTH.iter().find(|row| row.route == route.name)
    }
}

/// Whether a route's requests leave anything: all but reads, searches, and what only administrators do.
pub fn leaves_something(route: &Route) -> bool {
    route.method != Method::Get
        && !route.name.starts_with("admin.")
        && !matches!(route.name, "journal.search" | "realtime.tickets")
}

/// The most requests that one caller's day admits, and the limit that says so.
pub fn most_in_a_day(route: &Route) -> Option<(u64, &'static LimitRow)> {
    const DAY: u64 = 24 * 60 * 60;
    let in_a_day = |row: &'static LimitRow| {
        let windows = row.windows.iter();
        windows.map(|window| u64::from(window.admitted) * DAY.div_ceil(u64::from(window.seconds))).min()
    };
    let rows = route.limits.iter().map(|limit| limit.row()).filter(|row| row.scope != Scope::Account);
    rows.filter_map(|row| Some((in_a_day(row)?, row))).min_by_key(|(most, _)| *most)
}

/// Every route that leaves something, with its row.
pub fn rows() -> impl Iterator<Item = (&'static Route, &'static Growth)> {
    ROUTES.iter().filter_map(|route| Some((route, Growth::of(route)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_that_leaves_something_has_a_row_and_a_limit() {
        for route in ROUTES {
            let rows = GROWTH.iter().filter(|row| row.route == route.name).count();
            assert_eq!(rows, usize::from(leaves_something(route)), "{}", route.name);
            assert!(rows == 0 || most_in_a_day(route).is_some(), "{}", route.name);
        }
        assert_eq!(rows().count(), GROWTH.len(), "a row of no route");
    }

    #[test]
    fn the_narrowest_limit_counts() {
        let of =
            |name| most_in_a_day(crate::routes::by_name(name).unwrap()).map(|(most, row)| (most, row.name));
        assert_eq!(of("messages.post"), Some((500, "messages")));
        assert_eq!(of("me.update"), Some((10_000, "changes")));
    }
}
