//! What the routes table does not say of each route: a summary, its success, its answer and its body.

use serde_json::{Value, json};

/// A route's summary, its success, and the schemas of its answer and its body.
pub struct Described {
    pub route: &'static str,
    pub summary: &'static str,
    pub status: u16,
    pub answer: Option<&'static str>,
    pub body: Option<&'static str>,
    pub notes: &'static str,
}

impl Described {
    const fn new(
        route: &'static str,
        status: u16,
        answer: Option<&'static str>,
        summary: &'static str,
    ) -> Self {
        Described { route, summary, status, answer, body: None, notes: "" }
    }

    const fn body(mut self, body: &'static str) -> Self {
        self.body = Some(body);
        self
    }

    const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = notes;
        self
    }
}

const fn shows(route: &'static str, answer: &'static str, summary: &'static str) -> Described {
    Described::new(route, 200, Some(answer), summary)
}

const fn makes(route: &'static str, answer: &'static str, summary: &'static str) -> Described {
    Described::new(route, 201, Some(answer), summary)
}

const fn ends(route: &'static str, summary: &'static str) -> Described {
    Described::new(route, 204, None, summary)
}

pub const DESCRIPTIONS: &[Described] = &[
    shows("openapi", "Document", "This document."),
    makes("auth.register", "Opened", "Create an account and open a session.").body("Register"),
    shows("auth.login", "Opened", "Open a session.")
        .body("Login")
        .notes("An unknown e-mail and a wrong password are answered alike. Attempts are limited by account and by address."),
    shows("auth.refresh", "Refreshed", "Open the session that succeeds another.").body("Refresh").notes(
        "Safe to repeat when the answer was lost: the same successor is answered until it is first used, and for 60 \
         seconds more. A refresh token that is shown later revokes every session that came from the same log-in.",
    ),
    ends("auth.logout", "End the session, and all that it could be refreshed from or to."),
    shows("auth.session", "SessionInfo", "Whose the session is, and how long it lasts."),
    shows("me.get", "Me", "The caller's account."),
    shows("me.update", "Me", "Change the caller's account.").body("UpdateMe"),
    shows("me.limits", "Limits", "Each limit of the caller, what is left and when it resets."),
    shows("sessions.list", "Sessions", "The caller's sessions, newest first."),
    ends("sessions.revoke", "End one of the caller's sessions, and all that it could be refreshed from or to."),
    shows("users.get", "Profile", "What everyone may see of an account."),
    makes("circles.create", "CircleWithRole", "Create a circle and own it.").body("CreateCircle"),
    shows("circles.discover", "Circles", "Public circles, newest first.")
        .notes("The first page may be up to a quarter of an hour old."),
    shows("circles.get", "CircleWithRole", "A circle, and the caller's role in it."),
    shows("circles.update", "CircleWithRole", "Change a circle.").body("UpdateCircle"),
    ends("circles.archive", "Archive a circle.")
        .notes("Members may still read it, and leave; for others it does not exist any more, and nothing in it changes."),
    shows("members.list", "Members", "The members of a circle, longest first."),
    makes("members.join", "CircleWithRole", "Join a circle.")
        .body("Join")
        .notes("A private circle takes an invitation, which is used up. Who is a member already is answered 200."),
    ends("members.leave", "Leave a circle.").notes("The owner hands the circle over first."),
    shows("members.update", "Member", "Change a member's role.").body("UpdateMember").notes(
        "Moderators make members moderators, and may step down. Only the owner does more: `owner` hands the circle over, \
         and makes the former owner a moderator.",
    ),
    ends("members.remove", "Remove a member, or ban someone.")
        .notes("Moderators act on members, the owner on everyone else."),
    makes("invites.create", "Invite", "Invite one person, within seven days.")
        .body("CreateInvite")
        .notes("With `user` nobody else may use it, and they are told."),
    makes("messages.post", "Message", "Post a message.").body("WriteMessage"),
    shows("messages.list", "Messages", "A circle's messages, newest first."),
    shows("messages.get", "Message", "One message."),
    shows("messages.edit", "Message", "Change one's own message.").body("WriteMessage"),
    ends("messages.delete", "Delete a message: one's own, or as a moderator anyone's."),
    Described::new("reactions.add", 202, Some("Reacted"), "React to a message.").notes(REACTED),
    Described::new("reactions.remove", 202, Some("Reacted"), "Take a reaction back.").notes(REACTED),
    shows("reactions.list", "Reactions", "A message's reactions: counts, the caller's own, and the newest hundred."),
    Described::new("visits.record", 202, Some("Promised"), "Tell that one is in a circle.")
        .notes("Two within the same five minutes are one."),
    shows("activity.live", "LiveActivity", "What happened in a circle today. For its moderators.")
        .notes("Days are UTC's."),
    shows("activity.history", "Activity", "Who did how much in a circle, by day, newest first. For its moderators."),
    shows("notifications.list", "Notifications", "What the caller is told of, newest first.").notes(
        "Reactions to a message are one notification until it is read, which moves up with each. `invite` is there while it \
         can be used. Who leaves a circle keeps none of its notifications.",
    ),
    shows("notifications.unread", "Unread", "How many of the caller's notifications are unread."),
    shows("notifications.read", "Unread", "Mark a notification as read."),
    shows("notifications.read-all", "Unread", "Mark all notifications as read."),
    shows("drafts.save", "SavedDraft", "Save a draft.").body("SaveDraft").notes(
        "`base_version` is the version that the text was based on, null for a new draft. If that is not the current one, the \
         text is kept as a draft of its own, and 409 shows both; unless it is the current one's: a save may be sent again. Of one draft a save in every two minutes counts against the \
         limit; all are stored. A text that is kept beside another counts as the new draft that it is.",
    ),
    shows("drafts.list", "Drafts", "The caller's drafts, newest first."),
    shows("drafts.get", "Draft", "A draft."),
    ends("drafts.discard", "Discard a draft."),
    makes("journal.save", "Entry", "Save a journal entry, and clear its draft.").body("SaveEntry"),
    shows("journal.list", "Entries", "The caller's entries, by their days, newest first."),
    shows("journal.get", "Entry", "An entry."),
    shows("journal.edit", "Entry", "Change an entry. What it said before is kept.").body("EditEntry"),
    ends("journal.delete", "Delete an entry, with what it said before."),
    shows("journal.prompts", "Prompts", "What one might write about."),
    shows("journal.streak", "Streak", "How many days in a row the caller has written, in their own time zone."),
    shows("journal.tags", "Tags", "Tags of the caller's newest entries."),
    makes("mood.log", "Mood", "Log a mood.").body("LogMood"),
    shows("mood.list", "Moods", "The caller's moods, newest first."),
    shows("admin.jobs", "Jobs", "The region's jobs, and how they went. For administrators."),
    shows("admin.policies", "Policies", "The tables of routes, keys and limits. For administrators."),
    shows("admin.consistency", "Consistency", "What the region's auditor has compared and found. For administrators.").notes(
        "`conflicts` differed from Postgres where they must not have, and were repaired; `stale` were as old as they may be. \
         What waits for Postgres is null while Redis is away.",
    ),
    shows("admin.drop-copy", "DroppedCopy", "Drop a copy from Redis, by its name there. For administrators.")
        .notes("The next reader gets what Postgres has. What is no copy of anything in Postgres is refused."),
];

const REACTED: &str = "Safe to repeat. `promise` says where it is safe: in Redis as that is configured, on its way to \
                       Postgres within a second or so, or in Postgres.";

/// The domains, as the document groups operations.
pub fn tags() -> Value {
    let tags = [
        ("openapi", "This document."),
        ("auth", "Accounts and sessions: registering, logging in and out, refreshing."),
        ("me", "The caller's own account and limits."),
        ("sessions", "Where the caller is logged in."),
        ("users", "Other people."),
        ("circles", "Communities, public or private."),
        ("members", "Who is in a circle, and as what."),
        ("invites", "Ways into a private circle."),
        ("messages", "What is said in a circle. Each message has a number there."),
        ("reactions", "How people take a message. Counts are live."),
        ("visits", "Being there."),
        ("activity", "What goes on in a circle, for its moderators."),
        ("notifications", "What one is told of."),
        ("drafts", "Journal entries while they are written. Sealed, as all of a journal is."),
        ("journal", "Private entries, prompts, tags and streaks."),
        ("mood", "How one feels."),
        ("admin", "How the service does, for its administrators."),
    ];
    tags.iter().map(|(name, description)| json!({"name": name, "description": description})).collect()
}
