//! What a row of the routes table says, in its types. The rows are [`super::ROUTES`].

use crate::keys::Key;
use crate::limits::Limit;

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

    pub fn parse(text: &str) -> Option<Method> {
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

/// What is joined to a value, or hidden in it, since it differs by caller or changes fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// `role`: the caller's role in the circle, or null.
    Role,
    /// `reactions`: a message's reaction counts, live.
    Reactions,
    /// Nothing of those whom the caller has blocked. The edge answers if the value names none of them; else the origin makes the answer.
    Blocks,
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
        super::write(name, Method::Post, "", Audience::Admin, &[], fences)
    }
}
