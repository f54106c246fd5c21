//! Keys of the table, bound to the ids that their templates name: such a key always has a name. Nothing here talks to Redis.

use std::fmt::Write as _;

use super::{KEYS, Key, KeyRow};
use crate::ids::{Id, Ids, Partition, Uuid, parse_id};

/// A key of the table with every id that its template names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundKey {
    key: Key,
    ids: Ids,
    partition: Partition,
}

/// A constructor for each row that names ids, and for each key that exists once per region.
impl Key {
    pub fn session(user: Uuid, session: Uuid) -> BoundKey {
        Key::Session.bind(Ids::default().with(Id::User, user).with(Id::Session, session))
    }

    pub fn tickets(user: Uuid, session: Uuid) -> BoundKey {
        Key::Tickets.bind(Ids::default().with(Id::User, user).with(Id::Session, session))
    }

    pub fn membership(user: Uuid, circle: Uuid) -> BoundKey {
        Key::Membership.bind(Ids::default().with(Id::User, user).with(Id::Circle, circle))
    }

    pub fn blocked(user: Uuid) -> BoundKey {
        Key::Blocked.bind(Ids::default().with(Id::User, user))
    }

    pub fn my_circles(user: Uuid) -> BoundKey {
        Key::MyCircles.bind(Ids::default().with(Id::User, user))
    }

    pub fn me(user: Uuid) -> BoundKey {
        Key::Me.bind(Ids::default().with(Id::User, user))
    }

    pub fn profile(user: Uuid) -> BoundKey {
        Key::Profile.bind(Ids::default().with(Id::User, user))
    }

    pub fn personal_preferences(user: Uuid) -> BoundKey {
        Key::PersonalPreferences.bind(Ids::default().with(Id::User, user))
    }

    pub fn preferences(user: Uuid) -> BoundKey {
        Key::Preferences.bind(Ids::default().with(Id::User, user))
    }

    pub fn push_tokens(user: Uuid) -> BoundKey {
        Key::PushTokens.bind(Ids::default().with(Id::User, user))
    }

    pub fn circle(circle: Uuid) -> BoundKey {
        Key::Circle.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn circle_access(circle: Uuid) -> BoundKey {
        Key::CircleAccess.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn circle_members(circle: Uuid) -> BoundKey {
        Key::CircleMembers.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn circle_messages(circle: Uuid) -> BoundKey {
        Key::CircleMessages.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn circle_head(circle: Uuid) -> BoundKey {
        Key::CircleHead.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn read_marker(circle: Uuid, user: Uuid) -> BoundKey {
        Key::ReadMarker.bind(Ids::default().with(Id::Circle, circle).with(Id::User, user))
    }

    pub fn read_ahead(circle: Uuid, user: Uuid) -> BoundKey {
        Key::ReadAhead.bind(Ids::default().with(Id::Circle, circle).with(Id::User, user))
    }

    pub fn join_requests(circle: Uuid) -> BoundKey {
        Key::JoinRequests.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn join_texts(circle: Uuid) -> BoundKey {
        Key::JoinTexts.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn circle_activity(circle: Uuid) -> BoundKey {
        Key::CircleActivity.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn circle_stats(circle: Uuid) -> BoundKey {
        Key::CircleStats.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn message(circle: Uuid, message: Uuid) -> BoundKey {
        Key::Message.bind(Ids::default().with(Id::Circle, circle).with(Id::Message, message))
    }

    pub fn comments(circle: Uuid, message: Uuid) -> BoundKey {
        Key::Comments.bind(Ids::default().with(Id::Circle, circle).with(Id::Message, message))
    }

    pub fn reactions(circle: Uuid, message: Uuid) -> BoundKey {
        Key::Reactions.bind(Ids::default().with(Id::Circle, circle).with(Id::Message, message))
    }

    pub fn counts(circle: Uuid) -> BoundKey {
        Key::Counts.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn counts_page(circle: Uuid) -> BoundKey {
        Key::CountsPage.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn draft(user: Uuid, draft: Uuid) -> BoundKey {
        Key::Draft.bind(Ids::default().with(Id::User, user).with(Id::Draft, draft))
    }

    pub fn draft_sizes(user: Uuid) -> BoundKey {
        Key::DraftSizes.bind(Ids::default().with(Id::User, user))
    }

    pub fn typing(circle: Uuid) -> BoundKey {
        Key::Typing.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn presence(user: Uuid) -> BoundKey {
        Key::Presence.bind(Ids::default().with(Id::User, user))
    }

    pub fn online(circle: Uuid) -> BoundKey {
        Key::Online.bind(Ids::default().with(Id::Circle, circle))
    }

    pub fn message_draft(user: Uuid, circle: Uuid) -> BoundKey {
        Key::MessageDraft.bind(Ids::default().with(Id::User, user).with(Id::Circle, circle))
    }

    pub fn message_drafts(user: Uuid) -> BoundKey {
        Key::MessageDrafts.bind(Ids::default().with(Id::User, user))
    }

    pub fn recent(user: Uuid) -> BoundKey {
        Key::Recent.bind(Ids::default().with(Id::User, user))
    }

    pub fn journal_key(user: Uuid) -> BoundKey {
        Key::JournalKey.bind(Ids::default().with(Id::User, user))
    }

    pub fn recent_tags(user: Uuid) -> BoundKey {
        Key::RecentTags.bind(Ids::default().with(Id::User, user))
    }

    pub fn streak(user: Uuid) -> BoundKey {
        Key::Streak.bind(Ids::default().with(Id::User, user))
    }

    pub fn prompts() -> BoundKey {
        Key::Prompts.bind(Ids::default())
    }

    pub fn categories() -> BoundKey {
        Key::Categories.bind(Ids::default())
    }

    pub fn discovery() -> BoundKey {
        Key::Discovery.bind(Ids::default())
    }

    pub fn popular() -> BoundKey {
        Key::Popular.bind(Ids::default())
    }

    /// The key with those of `ids` that its template names, as routes bind their keys. `None` if one is missing.
    pub fn of(self, ids: &Ids) -> Option<BoundKey> {
        self.of_ids(ids, Partition::COMMON)
    }

    /// `partition` is for keys of no entity.
    pub(crate) fn of_ids(self, ids: &Ids, partition: Partition) -> Option<BoundKey> {
        let mut own = Ids::default();
        for id in self.row().ids() {
            own = own.with(id, ids.get(id)?);
        }
        Some(self.bind_in(own, partition))
    }

    /// The constructors pass exactly the template's ids; a test checks that.
    fn bind(self, ids: Ids) -> BoundKey {
        self.bind_in(ids, Partition::COMMON)
    }

    /// `partition` is for keys of no entity.
    fn bind_in(self, ids: Ids, partition: Partition) -> BoundKey {
        let entity = self.row().tag().and_then(|id| ids.get(id));
        BoundKey { key: self, ids, partition: entity.map_or(partition, Partition::of) }
    }
}

impl BoundKey {
    pub fn key(&self) -> Key {
        self.key
    }

    pub fn row(&self) -> &'static KeyRow {
        self.key.row()
    }

    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The partition whose vouching covers this key: the one in its hash tag, or that of the tag's entity.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Another key with the same ids, as counts are read beside their messages. `None` if its template names further ids.
    pub fn beside(&self, key: Key) -> Option<BoundKey> {
        key.of_ids(&self.ids, self.partition)
    }

    /// The name in Redis.
    pub fn name(&self) -> String {
        let mut name = String::with_capacity(128);
        let mut rest = self.row().template;
        while let Some((literal, after)) = rest.split_once('<') {
            let (parameter, after) = after.split_once('>').unwrap_or((after, ""));
            name.push_str(literal);
            match Id::parse(parameter).and_then(|id| self.ids.get(id)) {
                Some(id) => name.push_str(id.hyphenated().encode_lower(&mut [0; 36])),
                // Writing to a String cannot fail.
                None => drop(write!(name, "{}", self.partition)),
            }
            rest = after;
        }
        name.push_str(rest);
        name
    }

    /// The key with this name. `None` if no row describes it.
    pub fn parse(name: &str) -> Option<BoundKey> {
        let found = KEYS.iter().find_map(|row| parse_as(row, name))?;
        // The partition in the name must be its entity's.
        (found.name() == name).then_some(found)
    }
}

fn parse_as(row: &KeyRow, name: &str) -> Option<BoundKey> {
    const ID: usize = 36;
    const PARTITION: usize = 4;
    let (mut ids, mut partition) = (Ids::default(), Partition::COMMON);
    let (mut template, mut rest) = (row.template, name);
    while let Some((literal, after)) = template.split_once('<') {
        let (parameter, after) = after.split_once('>')?;
        rest = rest.strip_prefix(literal)?;
        template = after;
        let id = Id::parse(parameter);
        let (value, after) = rest.split_at_checked(if id.is_some() { ID } else { PARTITION })?;
        rest = after;
        match id {
            Some(id) => ids = ids.with(id, parse_id(value)?),
            None => partition = Partition::parse(value)?,
        }
    }
    if rest != template {
        return None;
    }
    row.key.of_ids(&ids, partition)
}
