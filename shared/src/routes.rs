//! The routes table: what the API offers, to whom, and by which data pattern. The edge routes, admits and caches from it
//! alone; the origin serves exactly its rows; the OpenAPI document and `docs/policies.md` are rendered from it. The table
//! does not say what a handler does.

mod path;

pub use path::{Matched, Path, lookup};

use crate::keys::Key;
use crate::limits::Limit;
use crate::live::{EVENTS, SOCKET};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    fn parse(text: &str) -> Option<Method> {
        Some(match text {
            "GET" | "HEAD" => Method::Get,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            _ => return None,
        })
    }

    /// Whether it changes what its path names, so that `If-Match` can name a version of that.
    pub fn changes_a_resource(self) -> bool {
        matches!(self, Method::Put | Method::Patch | Method::Delete)
    }

    /// Whether a request may be sent again when it surely did not reach the origin, or its answer was lost.
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch)
    }
}

/// Who may call. The edge refuses callers that it knows to have no right; the origin checks again, in a write's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Anyone; no session.
    Public,
    /// Anyone signed in.
    User,
    /// A member, or anyone signed in when the circle is public. For others a private circle does not exist.
    CircleReader,
    Member,
    Moderator,
    Owner,
    /// An administrator of the service; only the origin knows who is one.
    Admin,
}

impl Audience {
    /// As documents name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Audience::Public => "anyone",
            Audience::User => "signed in",
            Audience::CircleReader => "circle's reader",
            Audience::Member => "member",
            Audience::Moderator => "moderator",
            Audience::Owner => "owner",
            Audience::Admin => "administrator",
        }
    }

    /// Whether the caller's membership of the circle in the path matters.
    pub fn wants_membership(self) -> bool {
        matches!(self, Audience::CircleReader | Audience::Member | Audience::Moderator | Audience::Owner)
    }
}

/// The data patterns of the guidelines, and those that the guidelines leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Redis; on a miss Postgres, whose answer then fills Redis.
    CacheAside,
    /// Postgres, with the keys that it changes fenced until the answer.
    WriteThrough,
    /// Redis, whose entries are flushed to Postgres in batches.
    WriteBehind,
    /// Redis on every change, Postgres every few seconds, and the final save clears both.
    AutoSave,
    /// Redis alone, answered at the edge.
    RedisOnly,
    /// Redis and Postgres, at the origin: it alone can unseal Redis's values, or join them with rows.
    Joined,
    /// Redis's streams, which the origin's gateway follows.
    Live,
    /// Postgres alone.
    Direct,
}

impl Pattern {
    /// As documents name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Pattern::CacheAside => "cache-aside",
            Pattern::WriteThrough => "write-through",
            Pattern::WriteBehind => "write-behind",
            Pattern::AutoSave => "auto-save",
            Pattern::RedisOnly => "Redis only",
            Pattern::Joined => "Redis and Postgres, joined at the origin",
            Pattern::Live => "Redis's streams, followed at the origin",
            Pattern::Direct => "Postgres only",
        }
    }
}

/// The edge's own action for an admitted caller. It forwards whatever it cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEdge {
    /// Every request goes to the origin.
    Forward,
    /// Answers with the value of the route's key.
    Cached,
    /// Answers with the session's user and its remaining life.
    Session,
    /// Answers with the state of the caller's limits.
    Limits,
    /// Makes the reaction that the path's `{kind}` names, or takes it back.
    React { reacted: bool },
    /// Records a visit of the circle.
    Visit,
    /// Moves the caller's read marker in the circle to the number that the body names.
    MarkRead,
    /// Notes that the caller types in the circle.
    Type,
    /// Notes the state of one of the caller's devices, which the body names.
    SayPresence,
    /// Keeps the body, a message that the caller composes in the circle.
    SaveMessageDraft,
    /// Answers with that message.
    ReadMessageDraft,
    /// Forgets it.
    DropMessageDraft,
    /// Remembers what the caller has looked at, which the body names.
    NoteRecent,
    /// Answers with what the caller has looked at lately.
    ListRecent,
}

impl AtEdge {
    /// Whether Redis is the only store of what the route is about: without Redis there is no answer.
    pub fn is_redis_only(self) -> bool {
        match self {
            AtEdge::Type | AtEdge::SayPresence => true,
            AtEdge::SaveMessageDraft | AtEdge::ReadMessageDraft | AtEdge::DropMessageDraft => true,
            AtEdge::NoteRecent | AtEdge::ListRecent => true,
            AtEdge::Forward | AtEdge::Cached | AtEdge::Session | AtEdge::Limits => false,
            AtEdge::React { .. } | AtEdge::Visit | AtEdge::MarkRead => false,
        }
    }

    /// Whether the edge reads the body by itself.
    pub fn takes_body(self) -> bool {
        matches!(self, AtEdge::SayPresence | AtEdge::SaveMessageDraft | AtEdge::NoteRecent | AtEdge::MarkRead)
    }
}

/// A field joined to a cached value at the edge, since it differs by caller or changes fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// `role`: the caller's role in the circle, or null.
    Role,
    /// `reactions`: a message's reaction counts, live.
    Reactions,
}

#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `<domain>.<operation>`, as logs, metrics and idempotency records name it.
    pub name: &'static str,
    pub method: Method,
    /// With parameters in braces: `{circle}`, `{message}`, `{user}`, `{session}`, `{draft}`, `{entry}`, `{mood}`,
    /// `{notification}`, `{invite}`, `{token}`; `{kind}` of a reaction; `{key}`, the name of a copy, which the origin alone reads.
    pub path: &'static str,
    pub audience: Audience,
    pub pattern: Pattern,
    pub at_edge: AtEdge,
    /// The key that a GET without a cursor reads.
    pub key: Option<Key>,
    /// Checked in this order: the address's first, then all of the user's at once. The origin checks
    /// those of what a body names.
    pub limits: &'static [Limit],
    /// Bytes of request body let through. 0 for a read: not every host can forward a GET with a body.
    pub body: usize,
    pub overlays: &'static [Overlay],
    /// It keeps its answers by `Idempotency-Key`, so that a repetition does nothing, and limits need not count it.
    pub is_idempotent: bool,
    /// The keys that a successful write makes stale.
    pub fences: &'static [Key],
}

impl Route {
    /// What stands for a route where a command of the command line writes: no client can call it, and no table lists it.
    pub const fn of_command(name: &'static str, fences: &'static [Key]) -> Route {
        write(name, Post, "", Admin, &[], fences)
    }
}

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
    write("me.email", Post, "/v1/me/email", User, &[Passwords, Forwarded], &[]),
    at_edge("me.limits", "/v1/me/limits", AtEdge::Limits),
    direct("me.audit", "/v1/me/audit", User),
    joined("me.context", "/v1/me/context", User),
    joined("me.circles", "/v1/me/circles", User),
    Route { pattern: Live, ..direct("realtime.events", EVENTS, User) },
    // Its ticket says who asks.
    Route { pattern: Live, limits: &[PublicReads], ..direct("realtime.socket", SOCKET, Public) },
    Route { pattern: Direct, body: NO_BODY, ..write("realtime.tickets", Post, "/v1/realtime/tickets", User, &[Reads, Forwarded], &[]) },
    direct("sessions.list", "/v1/me/sessions", User),
    write("sessions.revoke-others", Delete, "/v1/me/sessions", User, CHANGES, &[Key::Session]),
    write("sessions.revoke", Delete, "/v1/me/sessions/{session}", User, CHANGES, &[Key::Session]),
    Route { body: BODY, ..redis_only("recent.note", Post, "/v1/me/recent", User, AtEdge::NoteRecent, &[Limit::Recent]) },
    at_edge("recent.list", "/v1/me/recent", AtEdge::ListRecent),
    cached("users.get", "/v1/users/{user}", User, Key::Profile, &[]),
    // Circles
    cached("categories.list", "/v1/categories", User, Key::Categories, &[]),
    Route { is_idempotent: true, body: CIRCLE_BODY, ..write("circles.create", Post, "/v1/circles", User, &[CircleCreate, Forwarded], &[Key::Membership, Key::MyCircles]) },
    cached("circles.discover", "/v1/circles", User, Key::Discovery, &[]),
    cached("circles.get", "/v1/circles/{circle}", CircleReader, Key::Circle, &[Overlay::Role]),
    Route { body: CIRCLE_BODY, ..write("circles.update", Patch, "/v1/circles/{circle}", Moderator, CHANGES, &[Key::Circle, Key::CircleAccess, Key::CircleHead]) },
    write("circles.archive", Delete, "/v1/circles/{circle}", Owner, CHANGES, &[Key::Circle, Key::CircleAccess, Key::CircleHead]),
    write("circles.restore", Post, "/v1/circles/{circle}/restore", Owner, CHANGES, &[Key::Circle, Key::CircleAccess, Key::CircleHead]),
    cached("members.list", "/v1/circles/{circle}/members", CircleReader, Key::CircleMembers, &[]),
    Route { is_idempotent: true, ..write("members.join", Post, "/v1/circles/{circle}/members/me", User, &[CircleJoin, Forwarded], OF_MEMBERS) },
    write("members.leave", Delete, "/v1/circles/{circle}/members/me", Member, CHANGES, OF_MEMBERS),
    write("members.update", Patch, "/v1/circles/{circle}/members/{user}", Moderator, CHANGES, OF_MEMBERS),
    write("members.remove", Delete, "/v1/circles/{circle}/members/{user}", Moderator, CHANGES, OF_MEMBERS),
    Route { is_idempotent: true, ..write("invites.create", Post, "/v1/circles/{circle}/invites", Moderator, &[Invites, Forwarded], &[]) },
    direct("invites.list", "/v1/circles/{circle}/invites", Moderator),
    write("invites.revoke", Delete, "/v1/circles/{circle}/invites/{invite}", Moderator, CHANGES, &[]),
    direct("bans.list", "/v1/circles/{circle}/bans", Moderator),
    write("bans.lift", Delete, "/v1/circles/{circle}/bans/{user}", Moderator, CHANGES, OF_MEMBERS),
    // Messages
    Route { is_idempotent: true, body: MESSAGE_BODY, ..write("messages.post", Post, "/v1/circles/{circle}/messages", Member, &[Messages, Forwarded], &[Key::CircleMessages, Key::CircleHead, Key::ReadMarker]) },
    cached("messages.list", "/v1/circles/{circle}/messages", CircleReader, Key::CircleMessages, &[Overlay::Reactions]),
    cached("messages.get", "/v1/circles/{circle}/messages/{message}", CircleReader, Key::Message, &[Overlay::Reactions]),
    Route { body: MESSAGE_BODY, ..write("messages.edit", Patch, "/v1/circles/{circle}/messages/{message}", Member, CHANGES, &[Key::CircleMessages, Key::CircleHead, Key::Message]) },
    write("messages.delete", Delete, "/v1/circles/{circle}/messages/{message}", Member, CHANGES, &[Key::CircleMessages, Key::CircleHead, Key::Message, Key::Reactions]),
    behind("reactions.add", Put, "/v1/circles/{circle}/messages/{message}/reactions/{kind}", Member, AtEdge::React { reacted: true }, &[Reactions]),
    behind("reactions.remove", Delete, "/v1/circles/{circle}/messages/{message}/reactions/{kind}", Member, AtEdge::React { reacted: false }, &[Reactions]),
    joined("reactions.mine", "/v1/circles/{circle}/reactions/mine", CircleReader),
    joined("reactions.list", "/v1/circles/{circle}/messages/{message}/reactions", CircleReader),
    // Reading
    Route { body: BODY, fences: &[Key::ReadMarker], ..behind("unread.mark", Put, "/v1/circles/{circle}/read", Member, AtEdge::MarkRead, &[ReadMarks]) },
    // Activity
    behind("visits.record", Post, "/v1/circles/{circle}/visits", Member, AtEdge::Visit, &[Visits]),
    joined("activity.live", "/v1/circles/{circle}/activity/live", Moderator),
    direct("activity.history", "/v1/circles/{circle}/activity/history", Moderator),
    // Presence, and messages that are being composed
    Route { body: BODY, ..redis_only("presence.say", Put, "/v1/me/presence", User, AtEdge::SayPresence, &[Limit::Presence]) },
    joined("presence.get", "/v1/users/{user}/presence", User),
    joined("presence.live", "/v1/circles/{circle}/live", Member),
    redis_only("presence.type", Put, "/v1/circles/{circle}/typing", Member, AtEdge::Type, &[Limit::Typing]),
    Route { body: MESSAGE_BODY, ..redis_only("message-drafts.save", Put, "/v1/circles/{circle}/draft", Member, AtEdge::SaveMessageDraft, &[Limit::MessageDrafts]) },
    Route { body: 0, ..redis_only("message-drafts.get", Get, "/v1/circles/{circle}/draft", Member, AtEdge::ReadMessageDraft, &[Reads]) },
    redis_only("message-drafts.discard", Delete, "/v1/circles/{circle}/draft", Member, AtEdge::DropMessageDraft, &[Limit::MessageDrafts]),
    // Notifications
    direct("notifications.list", "/v1/notifications", User),
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
    write("admin.restore", Post, "/v1/admin/users/{user}/restore", Admin, CHANGES, &[Key::Profile]),
    Route { pattern: Direct, ..write("admin.drop-copy", Delete, "/v1/admin/cache/{key}", Admin, &[Forwarded], &[]) },
];

/// The route with this name.
pub fn by_name(name: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.name == name)
}

#[cfg(test)]
mod tests;
