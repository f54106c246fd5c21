//! Properties of every row of the keys table, and of names that are no keys.

use proptest::prelude::*;

use super::*;
use crate::ids::{Ids, Uuid};

fn ids(values: [u128; Id::ALL.len()]) -> Ids {
    let ids = Id::ALL.into_iter().zip(values.map(Uuid::from_u128));
    ids.fold(Ids::default(), |ids, (id, value)| ids.with(id, value))
}

proptest! {
    #[test]
    fn a_key_has_one_spelling(row in 0..KEYS.len(), values: [u128; Id::ALL.len()], partition: u8, at: usize, to in "[0-9a-f{}:<>p+]") {
        let partition = Partition::all().nth(usize::from(partition)).unwrap();
        let key = KEYS[row].key.of_ids(&ids(values), partition).unwrap();
        let mut name = key.name();
        prop_assert_eq!(BoundKey::parse(&name), Some(key));
        let at = at % name.len();
        name.replace_range(at..=at, &to);
        if let Some(key) = BoundKey::parse(&name) {
            prop_assert_eq!(key.name(), name);
        }
    }

    #[test]
    fn whatever_comes_as_a_key_is_told_from_one(name in "(circle|session|vouch|limit):[{]?p?[0-9a-f-]{0,36}[}]?(:[a-z0-9-]{0,36}){0,3}|\\PC*") {
        if let Some(key) = BoundKey::parse(&name) {
            prop_assert_eq!(key.name(), name);
        }
    }
}

/// The key that the row's constructor makes; `None` for a partition's own keys, which [`Key::of_partition`] names.
fn constructed(key: Key, ids: &Ids) -> Option<BoundKey> {
    let [user, session, circle, message, draft] =
        [Id::User, Id::Session, Id::Circle, Id::Message, Id::Draft].map(|id| ids.get(id).unwrap());
    Some(match key {
        Key::Session => Key::session(user, session),
        Key::Tickets => Key::tickets(user, session),
        Key::Membership => Key::membership(user, circle),
        Key::Blocked => Key::blocked(user),
        Key::MyCircles => Key::my_circles(user),
        Key::Me => Key::me(user),
        Key::Profile => Key::profile(user),
        Key::PersonalPreferences => Key::personal_preferences(user),
        Key::Preferences => Key::preferences(user),
        Key::PushTokens => Key::push_tokens(user),
        Key::Circle => Key::circle(circle),
        Key::CircleAccess => Key::circle_access(circle),
        Key::CircleMembers => Key::circle_members(circle),
        Key::CircleMessages => Key::circle_messages(circle),
        Key::JoinRequests => Key::join_requests(circle),
        Key::JoinTexts => Key::join_texts(circle),
        Key::CircleActivity => Key::circle_activity(circle),
        Key::CircleStats => Key::circle_stats(circle),
        Key::CircleHead => Key::circle_head(circle),
        Key::ReadMarker => Key::read_marker(circle, user),
        Key::ReadAhead => Key::read_ahead(circle, user),
        Key::Message => Key::message(circle, message),
        Key::Comments => Key::comments(circle, message),
        Key::Reactions => Key::reactions(circle, message),
        Key::Counts => Key::counts(circle),
        Key::CountsPage => Key::counts_page(circle),
        Key::Draft => Key::draft(user, draft),
        Key::DraftSizes => Key::draft_sizes(user),
        Key::Typing => Key::typing(circle),
        Key::Presence => Key::presence(user),
        Key::Online => Key::online(circle),
        Key::MessageDraft => Key::message_draft(user, circle),
        Key::MessageDrafts => Key::message_drafts(user),
        Key::Recent => Key::recent(user),
        Key::PresenceDue => return None,
        Key::JournalKey => Key::journal_key(user),
        Key::RecentTags => Key::recent_tags(user),
        Key::Streak => Key::streak(user),
        Key::Prompts => Key::prompts(),
        Key::Categories => Key::categories(),
        Key::Discovery => Key::discovery(),
        Key::Popular => Key::popular(),
        Key::DirtyDrafts | Key::Vouch | Key::Epoch | Key::Touched | Key::Metrics | Key::Events => {
            return None;
        }
        Key::Cursor | Key::Settled | Key::Wake | Key::Writes | Key::Ledger | Key::Outgoing => return None,
    })
}

/// The expected name: the template with its parameters replaced one by one.
fn filled(template: &str, ids: &Ids, partition: Partition) -> String {
    let mut name = template.replace("<p>", &partition.to_string());
    for id in Id::ALL {
        let value = ids.get(id).unwrap();
        name = name.replace(&format!("<{}>", id.as_str()), &value.to_string());
        name = name.replace(&format!("<p:{}>", id.as_str()), &Partition::of(value).to_string());
    }
    name
}

#[test]
fn every_row_has_a_constructor_that_renders_its_template() {
    let ids = ids([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for (index, row) in KEYS.iter().enumerate() {
        assert_eq!(row.key as usize, index, "{} stands out of order", row.template);
        let Some(key) = constructed(row.key, &ids) else {
            let partition = Partition::parse("p117").unwrap();
            let name = filled(row.template, &ids, partition);
            assert_eq!(row.key.of_partition(partition), name);
            assert_eq!(
                BoundKey::parse(&name).map(|key| (key.key(), key.partition())),
                Some((row.key, partition))
            );
            continue;
        };
        assert_eq!(key.name(), filled(row.template, &ids, Partition::COMMON));
        assert_eq!(key.name().matches('{').count(), 1, "{} has one hash tag", key.name());
        assert_eq!((key.key(), row.key.of(&ids)), (row.key, Some(key)), "{}", row.template);
        assert_eq!(BoundKey::parse(&key.name()), Some(key));
    }
}

#[test]
fn a_keys_partition_is_that_of_its_hash_tag() {
    let ids = ids([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for row in KEYS {
        let key = row.key.of(&ids).unwrap();
        let (name, partition) = (key.name(), key.partition());
        let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
        let tagged =
            Partition::parse(tag).unwrap_or_else(|| Partition::of(crate::ids::parse_id(tag).unwrap()));
        assert_eq!(partition, tagged, "{name}");
    }
    let [user, circle] = [1, 3].map(Uuid::from_u128);
    assert_eq!(Key::journal_key(user).partition(), Partition::of(user));
    assert_eq!(Key::membership(user, circle).partition(), Partition::of(user));
    assert_eq!(Key::counts(circle).partition(), Partition::of(circle));
    assert_eq!(Key::discovery().partition(), Partition::COMMON);
}

#[test]
fn sessions_and_memberships_are_tagged_by_user() {
    let [user, session, circle] = [1, 2, 3].map(Uuid::from_u128);
    assert_eq!(Key::session(user, session).name(), format!("session:{{{user}}}:{session}"));
    assert_eq!(Key::membership(user, circle).name(), format!("membership:{{{user}}}:{circle}"));
}

#[test]
fn a_refill_reads_what_is_joined_in_the_same_slot() {
    let ids = ids([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for row in KEYS {
        let (key, joined) = (row.key.of(&ids).unwrap(), row.key.refilled_as());
        assert_eq!(joined.refilled_as(), joined, "{} is refilled in one step", row.template);
        assert_eq!(key.beside(joined).map(|key| key.partition()), Some(key.partition()), "{}", row.template);
    }
    assert_eq!(Key::CircleMessages.refilled_as(), Key::Counts);
    assert_eq!(Key::Message.refilled_as(), Key::Reactions);
    assert_eq!(Key::Circle.refilled_as(), Key::Circle);
}

#[test]
fn only_what_a_row_describes_is_parsed() {
    let circle = Key::circle(Uuid::from_u128(3)).name();
    let elsewhere = circle.replacen(&Partition::of(Uuid::from_u128(3)).to_string(), "p000", 1);
    let bad =
        [&elsewhere, &circle[1..], &circle[..circle.len() - 1], &format!("{circle}:x"), "", "vouch:{p256}"];
    for name in bad {
        assert_eq!(BoundKey::parse(name), None, "{name}");
    }
}

#[test]
fn a_missing_id_makes_no_key() {
    assert_eq!(Key::Circle.of(&Ids::default()), None);
    assert!(Key::Discovery.of(&Ids::default()).is_some());
}
