//! The scripts of what Redis alone holds: presence, messages that are being composed, what one has looked at, requests to join.

use optimist_shared::ids::Uuid;
use optimist_shared::joins::REQUEST_LENGTH;
use optimist_shared::presence::{self, State};
use optimist_shared::quotas::Quota;
use optimist_shared::recent::{MOST_RECENT, Recent};
use optimist_shared::scripts::{joins, message_drafts, presence as scripts, recent as recent_scripts};

use super::Bench;

/// A person with as many devices as count, and a circle in which as many are present and type as are listed.
pub async fn presences(bench: &mut Bench) {
    let (user, circle) = (Uuid::from_u128(u128::MAX), Uuid::from_u128(6));
    let device = |number: u32| format!("{number:0>64}");
    for number in 0..=presence::MOST_DEVICES {
        bench.expect("busy", &scripts::say(user, &device(number), State::Busy, 1_800_000)).await;
    }
    bench.expect("busy", &scripts::read(user)).await;
    bench.expect("busy", &scripts::claim(user)).await;
    bench.expect("", &scripts::claim(user)).await;
    bench.expect("1", &scripts::told(user, Some(State::Busy))).await;
    // One who is renewed is due, and due again if that comes between the claim and the telling.
    for _ in 0..2 {
        bench.expect("1", &scripts::renew(user)).await;
        bench.expect("busy", &scripts::claim(user)).await;
        bench.expect("1", &scripts::renew(user)).await;
        bench.expect("1", &scripts::told(user, Some(State::Busy))).await;
    }
    let people: Vec<_> = (0..u128::from(presence::MOST_LISTED))
        .map(|number| (Uuid::from_u128(u128::MAX - number), Some(State::Online)))
        .collect();
    for people in people.chunks(200) {
        bench.expect(&people.len().to_string(), &scripts::show(circle, people)).await;
        bench.expect("0", &scripts::show(circle, people)).await;
    }
    for (user, _) in people.iter().take(presence::MOST_TYPING as usize) {
        bench.expect("done", &scripts::typing(*user, circle)).await;
    }
    bench.expect("full", &scripts::typing(Uuid::nil(), circle)).await;
    let reply = bench.run(&scripts::live(circle)).await;
    let listed = presence::MOST_LISTED.to_string();
    assert_eq!((&reply[0], &reply[1]), (&listed, &listed));
    assert_eq!(reply.len() as u32, 2 + 2 * (presence::MOST_LISTED + presence::MOST_TYPING));
    let gone = [(Uuid::from_u128(u128::MAX), None)];
    bench.expect("1", &scripts::show(circle, &gone)).await;
    bench
        .expect(
            "2",
            &scripts::show(circle, &[(Uuid::nil(), Some(State::Away)), (people[1].0, Some(State::Away))]),
        )
        .await;
}

/// As much as is remembered of the longest names, and one more.
pub async fn looked_at(bench: &mut Bench) {
    let user = Uuid::from_u128(7);
    for number in 0..=u128::from(MOST_RECENT) {
        let recent = Recent::Message { circle: Uuid::from_u128(9), message: Uuid::from_u128(number) };
        bench.expect("1", &recent_scripts::note(user, recent)).await;
    }
    let reply = bench.run(&recent_scripts::list(user)).await;
    assert_eq!(reply.len() as u32, 2 * MOST_RECENT);
    // Those of one millisecond are in the order of their names.
    let newest = Recent::Message { circle: Uuid::from_u128(9), message: Uuid::from_u128(MOST_RECENT.into()) };
    assert_eq!(reply[0], newest.render());
}

/// As many requests to join as a circle holds, each with the longest text.
pub async fn asked(bench: &mut Bench) {
    let circle = Uuid::from_u128(9);
    let longest = "\u{1f33f}".repeat(REQUEST_LENGTH);
    let most = u128::from(Quota::JoinRequests.row().most);
    for number in 0..most {
        bench.expect("asked", &joins::ask(circle, Uuid::from_u128(number), &longest)).await;
    }
    bench.expect("known", &joins::ask(circle, Uuid::from_u128(0), "Again")).await;
    bench.expect("full", &joins::ask(circle, Uuid::from_u128(most), &longest)).await;
    // All pages together are all of them, in the order of asking.
    let (mut after, mut listed) = ((0, Uuid::nil()), 0);
    loop {
        let reply = bench.run(&joins::list(circle, after, 100)).await;
        let Some([user, at_ms, text]) =
            reply.rchunks(3).next().map(|last| [0, 1, 2].map(|at| last[at].clone()))
        else {
            break;
        };
        assert_eq!(text, longest);
        let place = (at_ms.parse().unwrap(), user.parse().unwrap());
        assert!(place > after);
        after = place;
        listed += reply.len() / 3;
    }
    assert_eq!(listed as u128, most);
}

/// The longest draft of a message, and as many as the quota admits.
pub async fn composed_messages(bench: &mut Bench) {
    let user = Uuid::from_u128(7);
    let longest = "\u{1f33f}".repeat(presence::MESSAGE_DRAFT_LENGTH);
    let most = u128::from(Quota::MessageDrafts.row().most_items());
    for number in 0..most {
        bench.expect("saved", &message_drafts::save(user, Uuid::from_u128(number), "Hi")).await;
    }
    bench.expect("full", &message_drafts::save(user, Uuid::from_u128(most), "Hi")).await;
    bench.expect("full", &message_drafts::save(user, Uuid::from_u128(0), &longest)).await;
    let reply = bench.run(&message_drafts::list(user)).await;
    assert_eq!(reply.len() as u128, 2 * most);
    for number in 0..4 {
        bench.expect("1", &message_drafts::discard(user, Uuid::from_u128(number))).await;
    }
    bench.expect("saved", &message_drafts::save(user, Uuid::from_u128(0), &longest)).await;
    let reply = bench.run(&message_drafts::read(user, Uuid::from_u128(0))).await;
    assert_eq!(reply[1], longest);
}
