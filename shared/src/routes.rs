//! The routes table: what the API offers, to whom, and by which data pattern. The edge routes, admits and caches from it
//! alone; the origin serves exactly its rows; the OpenAPI document and `docs/policies.md` are rendered from it.

use crate::ids::{Uuid, parse_id};
use crate::keys::{Key, Parameters};
use crate::limits::Limit;
use crate::reactions::Kind;

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

    /// Whether a request that surely did not reach the origin, or whose answer was lost, may be sent again.
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch)
    }
}

/// Who may call. The edge refuses whom it knows to have no right; the origin checks again, in the transaction of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Anyone; no session.
    Public,
    /// Anyone signed in.
    User,
    /// A member, or anyone signed in when the circle is public. For others a private circle does not exist.
    CircleReader,
    Member,
    Moderator,
    Owner,
    /// An administrator of the service: the origin alone knows who is one.
    Admin,
}

impl Caller {
    /// Whether the caller's membership of the circle in the path matters.
    pub fn wants_membership(self) -> bool {
        matches!(self, Caller::CircleReader | Caller::Member | Caller::Moderator | Caller::Owner)
    }
}

/// The data patterns of the guidelines, and what they leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Redis, on a miss Postgres, which then fills Redis.
    CacheAside,
    /// Postgres, with the keys that it changes fenced until the answer.
    WriteThrough,
    /// Redis, from where it goes to Postgres in batches.
    WriteBehind,
    /// Redis on every change, Postgres every few seconds, and the final save clears both.
    AutoSave,
    /// Redis alone, answered at the edge.
    RedisOnly,
    /// Redis and Postgres, at the origin: it alone can open what Redis has, or join it with rows.
    Joined,
    /// Postgres alone.
    Direct,
}

/// What is joined to a cached value at the edge, since it differs by caller or changes fast.
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
    /// With parameters in braces: `{circle}`, `{message}`, `{user}`, `{session}`, `{draft}`, `{entry}`,
    /// `{notification}`; `{kind}` of a reaction; `{key}`, the name of a copy, which the origin alone reads.
    pub path: &'static str,
    pub caller: Caller,
    pub pattern: Pattern,
    /// What a GET without a cursor reads.
    pub key: Option<Key>,
    /// Checked in this order: the address's first, then the user's all at once. `Account` limits are the origin's.
    pub limits: &'static [Limit],
    /// Bytes of request body let through. None of a read's: not every host can send a GET on with one.
    pub body: usize,
    pub overlays: &'static [Overlay],
    /// What a successful write makes stale.
    pub fences: &'static [Key],
}

/// Enough for any body of the API: its longest text has 16 Ki characters.
const BODY: usize = 64 * 1024;
/// For clients that send `{}` with everything.
const NO_BODY: usize = 1024;
/// A journal's text has 50,000 characters, of up to four bytes.
const JOURNAL_BODY: usize = 256 * 1024;

use {Caller::*, Limit::*, Method::*, Pattern::*};

/// A cached read.
const fn cached(
    name: &'static str,
    path: &'static str,
    caller: Caller,
    key: Key,
    overlays: &'static [Overlay],
) -> Route {
    Route {
        name,
        method: Get,
        path,
        caller,
        pattern: CacheAside,
        key: Some(key),
        limits: &[Reads],
        body: 0,
        overlays,
        fences: &[],
    }
}

/// A read that Postgres answers.
const fn direct(name: &'static str, path: &'static str, caller: Caller) -> Route {
    Route {
        name,
        method: Get,
        path,
        caller,
        pattern: Direct,
        key: None,
        limits: &[Reads, Forwarded],
        body: 0,
        overlays: &[],
        fences: &[],
    }
}

/// A read that the origin puts together.
const fn joined(name: &'static str, path: &'static str, caller: Caller) -> Route {
    Route { pattern: Joined, ..direct(name, path, caller) }
}

/// A read that the edge answers by itself.
const fn at_edge(name: &'static str, path: &'static str) -> Route {
    Route {
        name,
        method: Get,
        path,
        caller: User,
        pattern: RedisOnly,
        key: None,
        limits: &[Reads],
        body: 0,
        overlays: &[],
        fences: &[],
    }
}

const fn write(
    name: &'static str,
    method: Method,
    path: &'static str,
    caller: Caller,
    limits: &'static [Limit],
    fences: &'static [Key],
) -> Route {
    let body = if matches!(method, Method::Delete) { NO_BODY } else { BODY };
    Route {
        name,
        method,
        path,
        caller,
        pattern: WriteThrough,
        key: None,
        limits,
        body,
        overlays: &[],
        fences,
    }
}

/// A write that the edge makes in Redis, and the origin where the edge cannot.
const fn behind(
    name: &'static str,
    method: Method,
    path: &'static str,
    caller: Caller,
    limits: &'static [Limit],
) -> Route {
    Route {
        name,
        method,
        path,
        caller,
        pattern: WriteBehind,
        key: None,
        limits,
        body: NO_BODY,
        overlays: &[],
        fences: &[],
    }
}

/// The table.
#[rustfmt::skip] // One line a row.
pub const ROUTES: &[Route] = &[
    Route { limits: &[PublicReads], ..direct("openapi", "/v1/openapi.json", Public) },
    // Users and authentication
    write("auth.register", Post, "/v1/auth/register", Public, &[RegisterAddress], &[]),
    write("auth.login", Post, "/v1/auth/login", Public, &[LoginAddress, LoginAccount], &[]),
    write("auth.refresh", Post, "/v1/auth/refresh", Public, &[RefreshAddress], &[Key::Session]),
    write("auth.logout", Post, "/v1/auth/logout", User, &[Forwarded], &[Key::Session]),
    at_edge("auth.session", "/v1/auth/session"),
    cached("me.get", "/v1/me", User, Key::Me, &[]),
    write("me.update", Patch, "/v1/me", User, &[Forwarded], &[Key::Me, Key::Profile]),
    at_edge("me.limits", "/v1/me/limits"),
    direct("sessions.list", "/v1/me/sessions", User),
    write("sessions.revoke", Delete, "/v1/me/sessions/{session}", User, &[Forwarded], &[Key::Session]),
    cached("users.get", "/v1/users/{user}", User, Key::Profile, &[]),
    // Circles
    write("circles.create", Post, "/v1/circles", User, &[CircleCreate, Forwarded], &[Key::Membership]),
    cached("circles.discover", "/v1/circles", User, Key::Discovery, &[]),
    cached("circles.get", "/v1/circles/{circle}", CircleReader, Key::Circle, &[Overlay::Role]),
    write("circles.update", Patch, "/v1/circles/{circle}", Moderator, &[Forwarded], &[Key::Circle, Key::CircleAccess]),
    write("circles.archive", Delete, "/v1/circles/{circle}", Owner, &[Forwarded], &[Key::Circle, Key::CircleAccess]),
    cached("members.list", "/v1/circles/{circle}/members", CircleReader, Key::CircleMembers, &[]),
    write("members.join", Post, "/v1/circles/{circle}/members/me", User, &[CircleJoin, Forwarded], &[Key::Membership, Key::Circle, Key::CircleMembers]),
    write("members.leave", Delete, "/v1/circles/{circle}/members/me", Member, &[Forwarded], &[Key::Membership, Key::Circle, Key::CircleMembers]),
    write("members.update", Patch, "/v1/circles/{circle}/members/{user}", Moderator, &[Forwarded], &[Key::Membership, Key::Circle, Key::CircleMembers]),
    write("members.remove", Delete, "/v1/circles/{circle}/members/{user}", Moderator, &[Forwarded], &[Key::Membership, Key::Circle, Key::CircleMembers]),
    write("invites.create", Post, "/v1/circles/{circle}/invites", Moderator, &[Invites, Forwarded], &[]),
    // Messages
    write("messages.post", Post, "/v1/circles/{circle}/messages", Member, &[Messages, Forwarded], &[Key::CircleMessages]),
    cached("messages.list", "/v1/circles/{circle}/messages", CircleReader, Key::CircleMessages, &[Overlay::Reactions]),
    cached("messages.get", "/v1/circles/{circle}/messages/{message}", CircleReader, Key::Message, &[Overlay::Reactions]),
    write("messages.edit", Patch, "/v1/circles/{circle}/messages/{message}", Member, &[Forwarded], &[Key::CircleMessages, Key::Message]),
    write("messages.delete", Delete, "/v1/circles/{circle}/messages/{message}", Member, &[Forwarded], &[Key::CircleMessages, Key::Message, Key::Reactions]),
    behind("reactions.add", Put, "/v1/circles/{circle}/messages/{message}/reactions/{kind}", Member, &[Reactions]),
    behind("reactions.remove", Delete, "/v1/circles/{circle}/messages/{message}/reactions/{kind}", Member, &[Reactions]),
    joined("reactions.list", "/v1/circles/{circle}/messages/{message}/reactions", CircleReader),
    // Activity
    behind("visits.record", Post, "/v1/circles/{circle}/visits", Member, &[Visits]),
    joined("activity.live", "/v1/circles/{circle}/activity/live", Moderator),
    direct("activity.history", "/v1/circles/{circle}/activity/history", Moderator),
    // Notifications
    direct("notifications.list", "/v1/notifications", User),
    direct("notifications.unread", "/v1/notifications/unread-count", User),
    write("notifications.read", Post, "/v1/notifications/{notification}/read", User, &[Forwarded], &[]),
    write("notifications.read-all", Post, "/v1/notifications/read", User, &[Forwarded], &[]),
    // Journaling and wellness
    Route { pattern: AutoSave, body: JOURNAL_BODY, ..write("drafts.save", Put, "/v1/journal/drafts/{draft}", User, &[JournalAutosaves, Forwarded], &[]) },
    joined("drafts.list", "/v1/journal/drafts", User),
    joined("drafts.get", "/v1/journal/drafts/{draft}", User),
    write("drafts.discard", Delete, "/v1/journal/drafts/{draft}", User, &[Forwarded], &[]),
    Route { body: JOURNAL_BODY, ..write("journal.save", Post, "/v1/journal/entries", User, &[JournalEntries, Forwarded], &[Key::RecentTags, Key::Streak]) },
    direct("journal.list", "/v1/journal/entries", User),
    direct("journal.get", "/v1/journal/entries/{entry}", User),
    Route { body: JOURNAL_BODY, ..write("journal.edit", Patch, "/v1/journal/entries/{entry}", User, &[Forwarded], &[Key::RecentTags, Key::Streak]) },
    write("journal.delete", Delete, "/v1/journal/entries/{entry}", User, &[Forwarded], &[Key::RecentTags, Key::Streak]),
    cached("journal.prompts", "/v1/journal/prompts", User, Key::Prompts, &[]),
    joined("journal.streak", "/v1/journal/streak", User),
    joined("journal.tags", "/v1/journal/tags/recent", User),
    write("mood.log", Post, "/v1/mood", User, &[Moods, Forwarded], &[]),
    direct("mood.list", "/v1/mood", User),
    // Administration
    direct("admin.jobs", "/v1/admin/jobs", Admin),
    direct("admin.policies", "/v1/admin/policies", Admin),
    direct("admin.consistency", "/v1/admin/consistency", Admin),
    Route { pattern: Direct, ..write("admin.drop-copy", Delete, "/v1/admin/cache/{key}", Admin, &[Forwarded], &[]) },
];

/// What a path led to.
#[derive(Debug)]
pub enum Matched {
    Route(&'static Route, PathParameters),
    /// The path exists for these methods, in their order, and the request's is none of them.
    MethodNotAllowed(Vec<Method>),
    /// A parameter of the path is not what it must be: its name, and why.
    BadParameter(&'static str, &'static str),
    NotFound,
}

/// What the path names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathParameters {
    pub user: Option<Uuid>,
    pub session: Option<Uuid>,
    pub circle: Option<Uuid>,
    pub message: Option<Uuid>,
    pub draft: Option<Uuid>,
    pub entry: Option<Uuid>,
    pub notification: Option<Uuid>,
    pub kind: Option<Kind>,
}

impl PathParameters {
    /// Why the segment cannot be this parameter, if it cannot.
    fn set(&mut self, name: &str, segment: &str) -> Option<&'static str> {
        if name == "key" {
            return None;
        }
        if name == "kind" {
            self.kind = Kind::parse(segment);
            return self.kind.is_none().then_some("is not a kind of reaction");
        }
        let place = match name {
            "user" => &mut self.user,
            "session" => &mut self.session,
            "circle" => &mut self.circle,
            "message" => &mut self.message,
            "draft" => &mut self.draft,
            "entry" => &mut self.entry,
            "notification" => &mut self.notification,
            _ => return Some("is not a parameter of any path"),
        };
        *place = parse_id(segment);
        place.is_none().then_some("is not an id")
    }

    /// A key's parameters: from the path where it names them, else from the session.
    pub fn with_session(&self, user: Option<Uuid>, session: Option<Uuid>) -> Parameters {
        Parameters {
            user: self.user.or(user),
            session: self.session.or(session),
            circle: self.circle,
            message: self.message,
            draft: self.draft,
            partition: None,
        }
    }
}

/// Finds the route of a request. `path` is without the query; `HEAD` finds the route of `GET`.
pub fn find(method: &str, path: &str) -> Matched {
    let wanted = Method::parse(method);
    let mut allowed = Vec::new();
    let mut bad: Option<(&'static str, &'static str, usize)> = None;
    let mut found: Option<(&'static Route, PathParameters, usize)> = None;
    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
    for (route, shape) in ROUTES.iter().zip(&SHAPES) {
        if shape.slashes != slashes || !path.starts_with(&route.path[..shape.literal]) {
            continue;
        }
        match match_path(route.path, path) {
            PathMatch::No => {}
            PathMatch::Bad(name, reason, literals) if bad.is_none_or(|(.., best)| literals > best) => {
                bad = Some((name, reason, literals));
            }
            PathMatch::Bad(..) => {}
            PathMatch::Yes(parameters, literals) => {
                allowed.push(route.method);
                // `/members/me` is more literal than `/members/{user}`, and wins.
                if wanted == Some(route.method) && found.as_ref().is_none_or(|(_, _, best)| literals > *best)
                {
                    found = Some((route, parameters, literals));
                }
            }
        }
    }
    if let Some((route, parameters, _)) = found {
        return Matched::Route(route, parameters);
    }
    if !allowed.is_empty() {
        let methods = [Get, Post, Put, Patch, Delete];
        return Matched::MethodNotAllowed(
            methods.into_iter().filter(|method| allowed.contains(method)).collect(),
        );
    }
    bad.map_or(Matched::NotFound, |(name, reason, _)| Matched::BadParameter(name, reason))
}

enum PathMatch {
    No,
    /// The parameter that is not what it must be, why, and how many segments are literal.
    Bad(&'static str, &'static str, usize),
    Yes(PathParameters, usize),
}

/// What rules most routes out at a glance.
#[derive(Clone, Copy)]
struct Shape {
    slashes: usize,
    /// Bytes before the first parameter.
    literal: usize,
}

const SHAPES: [Shape; ROUTES.len()] = {
    let mut shapes = [Shape { slashes: 0, literal: 0 }; ROUTES.len()];
    let mut index = 0;
    while index < ROUTES.len() {
        shapes[index] = shape(ROUTES[index].path.as_bytes());
        index += 1;
    }
    shapes
};

const fn shape(template: &[u8]) -> Shape {
    let mut shape = Shape { slashes: 0, literal: template.len() };
    let mut index = 0;
    while index < template.len() {
        if template[index] == b'/' {
            shape.slashes += 1;
        }
        if template[index] == b'{' && index < shape.literal {
            shape.literal = index;
        }
        index += 1;
    }
    shape
}

/// Of a path with as many segments as the template.
fn match_path(template: &'static str, path: &str) -> PathMatch {
    let parameter = |expected: &'static str| expected.strip_prefix('{')?.strip_suffix('}');
    let segments = || template.split('/').zip(path.split('/'));
    // Parameters are only read where everything else is right.
    let fits = |(expected, segment): (&'static str, &str)| match parameter(expected) {
        Some(_) => !segment.is_empty(),
        None => expected == segment,
    };
    if !segments().all(fits) {
        return PathMatch::No;
    }
    let mut parameters = PathParameters::default();
    let mut literals = 0;
    let mut bad = None;
    for (expected, segment) in segments() {
        match parameter(expected) {
            Some(name) => bad = bad.or(parameters.set(name, segment).map(|reason| (name, reason))),
            None => literals += 1,
        }
    }
    match bad {
        None => PathMatch::Yes(parameters, literals),
        Some((name, reason)) => PathMatch::Bad(name, reason, literals),
    }
}

/// The route of that name.
pub fn by_name(name: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.name == name)
}

#[cfg(test)]
mod tests;
