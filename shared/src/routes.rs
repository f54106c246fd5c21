//! The routes table: what the API offers, to whom, and by which data pattern. The edge routes, admits and caches from it
//! alone; the origin serves exactly its rows; the OpenAPI document and `docs/policies.md` are rendered from it. The table
//! does not say what a handler does.

mod path;
mod row;

pub use path::{Matched, Path, lookup};
pub use row::{AtEdge, Audience, Method, Overlay, Pattern, Route};

use crate::keys::Key;
use crate::limits::Limit;
use crate::live::{EVENTS, SOCKET};

/// Bytes of a body whose texts have so many characters together. JSON may write one in twelve bytes, as two escapes, and 4 KiB hold
/// the rest of the body.
const fn body_of(characters: usize) -> usize {
    12 * characters + 4096
}

/// Enough for any body without a long text; the longest have rows of their own.
const BODY: usize = body_of(4_000);
/// For clients that send `{}` with every request.
const NO_BODY: usize = 1024;
/// A circle's name, description and rules, and its category's id.
const CIRCLE_BODY: usize = body_of(80 + 2_000 + 8_000 + 40);
const MESSAGE_BODY: usize = body_of(8_000);
/// An entry's title, its text, and twenty tags.
const JOURNAL_BODY: usize = body_of(200 + 50_000 + 20 * 40);
/// A draft takes more than its entry will, except for the text itself.
const DRAFT_BODY: usize = body_of(2_000 + 50_000 + 50 * 100);

use {Audience::*, Limit::*, Method::*, Pattern::*};

/// The limits of a write that no limit of its own keeps rare.
const CHANGES: &[Limit] = &[Changes, Forwarded];
/// The keys that a change of a membership makes stale.
const OF_MEMBERS: &[Key] =
    &[Key::Membership, Key::MyCircles, Key::ReadMarker, Key::Circle, Key::CircleMembers];

/// A cached read.
const fn cached(
    name: &'static str,
    path: &'static str,
    audience: Audience,
    key: Key,
    overlays: &'static [Overlay],
) -> Route {
    Route {
        name,
        method: Get,
        path,
        audience,
        pattern: CacheAside,
        at_edge: AtEdge::Cached,
        key: Some(key),
        limits: &[Reads],
        body: 0,
        overlays,
        is_idempotent: false,
        fences: &[],
    }
}

/// A read that Postgres answers.
const fn direct(name: &'static str, path: &'static str, audience: Audience) -> Route {
    Route {
        name,
        method: Get,
        path,
        audience,
        pattern: Direct,
        at_edge: AtEdge::Forward,
        key: None,
        limits: &[Reads, Forwarded],
        body: 0,
        overlays: &[],
        is_idempotent: false,
        fences: &[],
    }
}

/// A read that the origin joins from both stores.
const fn joined(name: &'static str, path: &'static str, audience: Audience) -> Route {
    Route { pattern: Joined, ..direct(name, path, audience) }
}

/// The same of a read whose answer names people.
const fn veiled(route: Route) -> Route {
    Route { overlays: &[Overlay::Blocks], ..route }
}

/// A read that the edge answers by itself.
const fn at_edge(name: &'static str, path: &'static str, at_edge: AtEdge) -> Route {
    Route {
        name,
        method: Get,
        path,
        audience: User,
        pattern: RedisOnly,
        at_edge,
        key: None,
        limits: &[Reads],
        body: 0,
        overlays: &[],
        is_idempotent: false,
        fences: &[],
    }
}

const fn write(
    name: &'static str,
    method: Method,
    path: &'static str,
    audience: Audience,
    limits: &'static [Limit],
    fences: &'static [Key],
) -> Route {
    let body = if matches!(method, Method::Delete) { NO_BODY } else { BODY };
    Route {
        name,
        method,
        path,
        audience,
        pattern: WriteThrough,
        at_edge: AtEdge::Forward,
        key: None,
        limits,
        body,
        overlays: &[],
        is_idempotent: false,
        fences,
    }
}

/// A write that the edge makes in Redis, and the origin where the edge cannot.
const fn behind(
    name: &'static str,
    method: Method,
    path: &'static str,
    audience: Audience,
    at_edge: AtEdge,
    limits: &'static [Limit],
) -> Route {
    Route {
        name,
        method,
        path,
        audience,
        pattern: WriteBehind,
        at_edge,
        key: None,
        limits,
        body: NO_BODY,
        overlays: &[],
        is_idempotent: false,
        fences: &[],
    }
}

/// A change of what Redis alone holds, which the edge makes; and the origin, where the edge does not know the caller.
const fn redis_only(
    name: &'static str,
    method: Method,
    path: &'static str,
    audience: Audience,
    at_edge: AtEdge,
    limits: &'static [Limit],
) -> Route {
    Route { pattern: RedisOnly, ..behind(name, method, path, audience, at_edge, limits) }
}

/// The table.
#[rustfmt::skip] // One line a row.
pub const ROUTES: &[Route] = &[
    Route { limits: &[PublicReads], ..direct("openapi", "/v1/openapi.json", Public) },
    // Users and authentication
    write("auth.register", Post, "/v1/auth/register", Public, &[RegisterAddress, MailAccount, MailTotal], &[]),
    write("auth.verify", Post, "/v1/auth/verify", Public, &[LoginAddress], &[Key::Me]),
    write("auth.verify-resend", Post, "/v1/auth/verify/resend", Public, &[RegisterAddress, MailAccount, MailTotal], &[]),
    write("auth.password-forgot", Post, "/v1/auth/password/forgot", Public, &[RegisterAddress, MailAccount, MailTotal], &[]),
    write("auth.password-reset", Post, "/v1/auth/password/reset", Public, &[LoginAddress], &[Key::Session, Key::Me]),
    write("auth.login", Post, "/v1/auth/login", Public, &[LoginAddress, LoginAccount, LoginTotal, LoginDevice, Limit::Sessions], &[Key::Session]),
    write("auth.refresh", Post, "/v1/auth/refresh", Public, &[RefreshAddress, RefreshFamily, Limit::Sessions], &[Key::Session]),
    write("auth.logout", Post, "/v1/auth/logout", User, CHANGES, &[Key::Session]),
    at_edge("auth.session", "/v1/auth/session", AtEdge::Session),
    cached("me.get", "/v1/me", User, Key::Me, &[]),
    write("me.update", Patch, "/v1/me", User, CHANGES, &[Key::Me, Key::Profile, Key::PersonalPreferences]),
    cached("me.preferences", "/v1/me/preferences", User, Key::PersonalPreferences, &[]),
    write("me.set-preferences", Put, "/v1/me/preferences", User, CHANGES, &[Key::PersonalPreferences, Key::Me]),
    write("me.password", Post, "/v1/me/password", User, &[Passwords, Forwarded], &[Key::Session]),
    // Its body has a password.
    Route { body: BODY, ..write("me.erase", Delete, "/v1/me", User, &[Passwords, Forwarded], &[Key::Session, Key::Me, Key::Profile, Key::PersonalPreferences, Key::Preferences, Key::PushTokens, Key::MyCircles, Key::RecentTags, Key::Streak, Key::CircleMembers, Key::CircleMessages, Key::CircleHead]) },
    write("me.email", Post, "/v1/me/email", User, &[Passwords, Forwarded], &[]),
    write("me.export", Post, "/v1/me/export", User, CHANGES, &[]),
    at_edge("me.limits", "/v1/me/limits", AtEdge::Limits),
    direct("me.audit", "/v1/me/audit", User),
    joined("me.context", "/v1/me/context", User),
    veiled(joined("me.circles", "/v1/me/circles", User)),
    direct("exports.get", "/v1/me/exports/{export}", User),
    direct("exports.fetch", "/v1/me/exports/{export}/archive", User),
    Route { pattern: Live, ..direct("realtime.events", EVENTS, User) },
    // Its ticket says who asks.
    Route { pattern: Live, limits: &[PublicReads], ..direct("realtime.socket", SOCKET, Public) },
    Route { pattern: Direct, body: NO_BODY, ..write("realtime.tickets", Post, "/v1/realtime/tickets", User, &[Reads, Forwarded], &[]) },
    direct("sessions.list", "/v1/me/sessions", User),
    write("sessions.revoke-others", Delete, "/v1/me/sessions", User, CHANGES, &[Key::Session]),
    write("sessions.revoke", Delete, "/v1/me/sessions/{session}", User, CHANGES, &[Key::Session]),
    Route { body: BODY, ..redis_only("recent.note", Post, "/v1/me/recent", User, AtEdge::NoteRecent, &[Limit::Recent]) },
    at_edge("recent.list", "/v1/me/recent", AtEdge::ListRecent),
    veiled(direct("favorites.list", "/v1/me/favorites", User)),
    write("favorites.add", Put, "/v1/me/favorites/{message}", User, CHANGES, &[]),
    write("favorites.remove", Delete, "/v1/me/favorites/{message}", User, CHANGES, &[]),
    direct("blocks.list", "/v1/me/blocks", User),
    write("blocks.add", Put, "/v1/me/blocks/{user}", User, CHANGES, &[Key::Blocked]),
    write("blocks.lift", Delete, "/v1/me/blocks/{user}", User, CHANGES, &[Key::Blocked]),
    direct("mutes.list", "/v1/me/mutes", User),
    write("mutes.add", Put, "/v1/me/mutes/{user}", User, CHANGES, &[]),
    write("mutes.lift", Delete, "/v1/me/mutes/{user}", User, CHANGES, &[]),
    cached("users.get", "/v1/users/{user}", User, Key::Profile, &[Overlay::Blocks]),
    // Circles
    cached("categories.list", "/v1/categories", User, Key::Categories, &[]),
    Route { is_idempotent: true, body: CIRCLE_BODY, ..write("circles.create", Post, "/v1/circles", User, &[CircleCreate, Forwarded], &[Key::Membership, Key::MyCircles]) },
    cached("circles.discover", "/v1/circles", User, Key::Discovery, &[]),
    cached("circles.get", "/v1/circles/{circle}", CircleReader, Key::Circle, &[Overlay::Role]),
    Route { body: CIRCLE_BODY, ..write("circles.update", Patch, "/v1/circles/{circle}", Moderator, CHANGES, &[Key::Circle, Key::CircleAccess, Key::CircleHead]) },
    write("circles.archive", Delete, "/v1/circles/{circle}", Owner, CHANGES, &[Key::Circle, Key::CircleAccess, Key::CircleHead]),
    write("circles.restore", Post, "/v1/circles/{circle}/restore", Owner, CHANGES, &[Key::Circle, Key::CircleAccess, Key::CircleHead]),
    cached("members.list", "/v1/circles/{circle}/members", CircleReader, Key::CircleMembers, &[Overlay::Blocks]),
    Route { is_idempotent: true, ..write("members.join", Post, "/v1/circles/{circle}/members/me", User, &[CircleJoin, Forwarded], OF_MEMBERS) },
    write("members.leave", Delete, "/v1/circles/{circle}/members/me", Member, CHANGES, OF_MEMBERS),
    write("members.update", Patch, "/v1/circles/{circle}/members/{user}", Moderator, CHANGES, OF_MEMBERS),
    write("members.remove", Delete, "/v1/circles/{circle}/members/{user}", Moderator, CHANGES, OF_MEMBERS),
    write("ownership.offer", Put, "/v1/circles/{circle}/ownership", Owner, CHANGES, &[]),
    direct("ownership.get", "/v1/circles/{circle}/ownership", Member),
    write("ownership.withdraw", Delete, "/v1/circles/{circle}/ownership", Member, CHANGES, &[]),
    write("ownership.accept", Post, "/v1/circles/{circle}/ownership/accept", Member, CHANGES, OF_MEMBERS),
    Route { is_idempotent: true, ..write("invites.create", Post, "/v1/circles/{circle}/invites", Moderator, &[Invites, Forwarded], &[]) },
    direct("invites.list", "/v1/circles/{circle}/invites", Moderator),
    write("invites.revoke", Delete, "/v1/circles/{circle}/invites/{invite}", Moderator, CHANGES, &[]),
    direct("bans.list", "/v1/circles/{circle}/bans", Moderator),
    write("bans.lift", Delete, "/v1/circles/{circle}/bans/{user}", Moderator, CHANGES, OF_MEMBERS),
    Route { pattern: Joined, ..write("joins.ask", Post, "/v1/circles/{circle}/join-requests", User, &[CircleJoin, Forwarded], &[]) },
    veiled(joined("joins.list", "/v1/circles/{circle}/join-requests", Moderator)),
    joined("joins.mine", "/v1/circles/{circle}/join-requests/me", User),
    Route { pattern: Joined, ..write("joins.withdraw", Delete, "/v1/circles/{circle}/join-requests/me", User, CHANGES, &[]) },
    write("joins.approve", Post, "/v1/circles/{circle}/join-requests/{user}/approve", Moderator, CHANGES, OF_MEMBERS),
    write("joins.decline", Post, "/v1/circles/{circle}/join-requests/{user}/decline", Moderator, CHANGES, &[]),
    // Messages
    Route { is_idempotent: true, body: MESSAGE_BODY, ..write("messages.post", Post, "/v1/circles/{circle}/messages", Member, &[Messages, Forwarded], &[Key::CircleMessages, Key::CircleHead, Key::ReadMarker]) },
    cached("messages.list", "/v1/circles/{circle}/messages", CircleReader, Key::CircleMessages, &[Overlay::Reactions, Overlay::Blocks]),
    cached("messages.get", "/v1/circles/{circle}/messages/{message}", CircleReader, Key::Message, &[Overlay::Reactions, Overlay::Blocks]),
    joined("messages.popular", "/v1/messages/popular", User),
    Route { body: MESSAGE_BODY, ..write("messages.edit", Patch, "/v1/circles/{circle}/messages/{message}", Member, CHANGES, &[Key::CircleMessages, Key::CircleHead, Key::Message, Key::Comments]) },
    write("messages.delete", Delete, "/v1/circles/{circle}/messages/{message}", Member, CHANGES, &[Key::CircleMessages, Key::CircleHead, Key::Message, Key::Comments, Key::Reactions]),
    Route { is_idempotent: true, body: MESSAGE_BODY, ..write("comments.post", Post, "/v1/circles/{circle}/messages/{message}/comments", Member, &[Messages, Forwarded], &[Key::CircleMessages, Key::CircleHead, Key::ReadMarker, Key::Message, Key::Comments]) },
    cached("comments.list", "/v1/circles/{circle}/messages/{message}/comments", CircleReader, Key::Comments, &[Overlay::Reactions, Overlay::Blocks]),
    // Reports
    write("reports.make", Post, "/v1/circles/{circle}/messages/{message}/report", CircleReader, CHANGES, &[]),
    veiled(direct("reports.list", "/v1/circles/{circle}/reports", Moderator)),
    write("reports.decide", Post, "/v1/circles/{circle}/reports/{message}/decide", Moderator, CHANGES, &[Key::CircleMessages, Key::CircleHead, Key::Message, Key::Comments, Key::Reactions]),
    behind("reactions.add", Put, "/v1/circles/{circle}/messages/{message}/reactions/{kind}", Member, AtEdge::React { reacted: true }, &[Reactions]),
    behind("reactions.remove", Delete, "/v1/circles/{circle}/messages/{message}/reactions/{kind}", Member, AtEdge::React { reacted: false }, &[Reactions]),
    joined("reactions.mine", "/v1/circles/{circle}/reactions/mine", CircleReader),
    veiled(joined("reactions.list", "/v1/circles/{circle}/messages/{message}/reactions", CircleReader)),
    // Search, which finds nothing of those whom the caller has blocked.
    Route { limits: &[Searches, Reads, Forwarded], ..direct("search.find", "/v1/search", User) },
    // Reading
    Route { body: BODY, fences: &[Key::ReadMarker], ..behind("unread.mark", Put, "/v1/circles/{circle}/read", Member, AtEdge::MarkRead, &[ReadMarks]) },
    // Activity
    behind("visits.record", Post, "/v1/circles/{circle}/visits", Member, AtEdge::Visit, &[Visits]),
    cached("activity.feed", "/v1/circles/{circle}/activity", CircleReader, Key::CircleActivity, &[Overlay::Blocks]),
    joined("activity.live", "/v1/circles/{circle}/activity/live", Moderator),
    direct("activity.history", "/v1/circles/{circle}/activity/history", Moderator),
    cached("activity.stats", "/v1/circles/{circle}/stats", CircleReader, Key::CircleStats, &[]),
    direct("activity.growth", "/v1/circles/{circle}/growth", Moderator),
    // Presence, and messages that are being composed
    Route { body: BODY, ..redis_only("presence.say", Put, "/v1/me/presence", User, AtEdge::SayPresence, &[Limit::Presence]) },
    joined("presence.get", "/v1/users/{user}/presence", User),
    veiled(joined("presence.live", "/v1/circles/{circle}/live", Member)),
    redis_only("presence.type", Put, "/v1/circles/{circle}/typing", Member, AtEdge::Type, &[Limit::Typing]),
    Route { body: MESSAGE_BODY, ..redis_only("message-drafts.save", Put, "/v1/circles/{circle}/draft", Member, AtEdge::SaveMessageDraft, &[Limit::MessageDrafts]) },
    Route { body: 0, ..redis_only("message-drafts.get", Get, "/v1/circles/{circle}/draft", Member, AtEdge::ReadMessageDraft, &[Reads]) },
    redis_only("message-drafts.discard", Delete, "/v1/circles/{circle}/draft", Member, AtEdge::DropMessageDraft, &[Limit::MessageDrafts]),
    // Notifications
    veiled(direct("notifications.list", "/v1/notifications", User)),
    direct("notifications.unread", "/v1/notifications/unread-count", User),
    write("notifications.read", Post, "/v1/notifications/{notification}/read", User, CHANGES, &[]),
    write("notifications.read-all", Post, "/v1/notifications/read", User, CHANGES, &[]),
    direct("notifications.delivery", "/v1/notifications/{notification}/delivery", User),
    cached("preferences.get", "/v1/me/notification-preferences", User, Key::Preferences, &[]),
    write("preferences.set", Put, "/v1/me/notification-preferences", User, CHANGES, &[Key::Preferences]),
    cached("push-tokens.list", "/v1/me/push-tokens", User, Key::PushTokens, &[]),
    write("push-tokens.add", Post, "/v1/me/push-tokens", User, &[PushTokens, Forwarded], &[Key::PushTokens]),
    write("push-tokens.remove", Delete, "/v1/me/push-tokens/{token}", User, CHANGES, &[Key::PushTokens]),
    // Journaling and wellness
    Route { pattern: AutoSave, body: DRAFT_BODY, ..write("drafts.save", Put, "/v1/journal/drafts/{draft}", User, &[JournalAutosaves, Forwarded], &[]) },
    joined("drafts.list", "/v1/journal/drafts", User),
    joined("drafts.get", "/v1/journal/drafts/{draft}", User),
    write("drafts.discard", Delete, "/v1/journal/drafts/{draft}", User, CHANGES, &[]),
    Route { is_idempotent: true, body: JOURNAL_BODY, ..write("journal.save", Post, "/v1/journal/entries", User, &[JournalEntries, Forwarded], &[Key::RecentTags, Key::Streak]) },
    direct("journal.list", "/v1/journal/entries", User),
    Route { pattern: Direct, ..write("journal.search", Post, "/v1/journal/entries/search", User, &[Reads, Forwarded], &[]) },
    direct("journal.get", "/v1/journal/entries/{entry}", User),
    Route { body: JOURNAL_BODY, ..write("journal.edit", Patch, "/v1/journal/entries/{entry}", User, &[JournalEdits, Changes, Forwarded], &[Key::RecentTags, Key::Streak]) },
    write("journal.delete", Delete, "/v1/journal/entries/{entry}", User, CHANGES, &[Key::RecentTags, Key::Streak]),
    cached("journal.prompts", "/v1/journal/prompts", User, Key::Prompts, &[]),
    joined("journal.streak", "/v1/journal/streak", User),
    joined("journal.tags", "/v1/journal/tags/recent", User),
    Route { is_idempotent: true, ..write("mood.log", Post, "/v1/mood", User, &[Moods, Forwarded], &[]) },
    direct("mood.list", "/v1/mood", User),
    direct("mood.get", "/v1/mood/{mood}", User),
    write("mood.edit", Patch, "/v1/mood/{mood}", User, CHANGES, &[]),
    write("mood.delete", Delete, "/v1/mood/{mood}", User, CHANGES, &[]),
    // Administration
    direct("admin.jobs", "/v1/admin/jobs", Admin),
    direct("admin.policies", "/v1/admin/policies", Admin),
    direct("admin.consistency", "/v1/admin/consistency", Admin),
    direct("admin.audit", "/v1/admin/audit", Admin),
    write("admin.suspend", Post, "/v1/admin/users/{user}/suspend", Admin, CHANGES, &[Key::Session, Key::Profile]),
    veiled(direct("admin.reports", "/v1/admin/reports", Admin)),
    write("admin.decide", Post, "/v1/admin/circles/{circle}/reports/{message}/decide", Admin, CHANGES, &[Key::CircleMessages, Key::CircleHead, Key::Message, Key::Comments, Key::Reactions]),
    write("admin.restore", Post, "/v1/admin/users/{user}/restore", Admin, CHANGES, &[Key::Profile]),
    Route { pattern: Direct, ..write("admin.drop-copy", Delete, "/v1/admin/cache/{key}", Admin, &[Forwarded], &[]) },
];

/// The route with this name.
pub fn by_name(name: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.name == name)
}

#[cfg(test)]
mod tests;
