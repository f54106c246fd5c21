//! Notifications of what a person may not see any more are withdrawn, and the unread count with them.

use super::*;
use optimist_tests::until;

/// What happens to Bo, or in the circle.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Leaves,
    IsRemoved,
    IsBanned,
    /// Ada deletes a message of hers.
    MessageDeleted,
    /// A moderator deletes the one that names Bo.
    MentionDeleted,
    /// Bo deletes the message that Ada has reacted to.
    OwnMessageDeleted,
    ReactionTakenBack,
    /// Members may still read it.
    CircleArchived,
}

const CASES: [(Happens, &[&str]); 8] = [
    (Happens::Leaves, &[]),
    (Happens::IsRemoved, &[]),
    (Happens::IsBanned, &[]),
    (Happens::MessageDeleted, &["mention", "reaction", "role"]),
    (Happens::MentionDeleted, &["message", "reaction", "role"]),
    (Happens::OwnMessageDeleted, &["mention", "message", "role"]),
    (Happens::ReactionTakenBack, &["mention", "message", "role"]),
    (Happens::CircleArchived, &["mention", "message", "reaction", "role"]),
];

/// The kinds of all notifications of a person, sorted.
async fn kinds(client: &Client) -> Vec<String> {
    let list = client.get("/v1/notifications?limit=100").await.expect(200);
    let items = list.body["items"].as_array().unwrap().iter();
    let mut kinds: Vec<String> = items.map(|item| item["kind"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds
}

async fn unread(client: &Client) -> u64 {
    client.get("/v1/notifications/unread-count").await.expect(200).body["unread"].as_u64().unwrap()
}

async fn react(client: &Client, circle: &str, message: &str, method: Method) {
    let path = format!("/v1/circles/{circle}/messages/{message}/reactions/heart");
    client.send(method, &path, &[], None).await.expect(202);
}

/// The counts are those of the rows.
fn check_counts(system: &System) {
    let wrong = "select count(*) from notification_counts c where (unread, held) <> (
        select count(*) filter (where n.read_at is null and n.place > c.read_through), count(*)
        from notifications n where n.user_id = c.user_id)";
    assert_eq!(system.sql(wrong), "0", "counts differ from rows");
}

/// `is_read`: whether Bo has read the message and the mention before.
async fn play(system: &System, happens: Happens, left: &[&str], is_read: bool) {
    let pair = Pair::new(system).await;
    let Pair { ada, bo, circle } = &pair;
    let cy = system.register("Cy").await;
    cy.join(circle, ada).await;
    let role = |role: &str| json!({"role": role});
    let members = format!("/v1/circles/{circle}/members");
    ada.patch(&format!("{members}/{}", cy.user), role("moderator")).await.expect(200);
    // Another circle's notification stays, whatever happens.
    let other = ada.create_circle("private").await;
    bo.join(&other, ada).await;
    ada.say(&other, "Elsewhere.").await;
    let own = bo.say(circle, "Mine.").await;
    react(ada, circle, &own, Method::PUT).await;
    let message = ada.say(circle, "Good morning.").await;
    let mention = ada.say(circle, &format!("<@{}>", bo.user)).await;
    ada.patch(&format!("{members}/{}", bo.user), role("moderator")).await.expect(200);
    until("Bo is told of all", async || unread(bo).await == 5).await;
    if is_read {
        for id in [&message, &mention] {
            bo.post(&format!("/v1/notifications/{id}/read"), Value::Null).await.expect(200);
        }
    }
    let messages = format!("/v1/circles/{circle}/messages");
    match happens {
        Happens::Leaves => drop(bo.delete(&format!("{members}/me")).await.expect(204)),
        Happens::IsRemoved => drop(ada.delete(&format!("{members}/{}", bo.user)).await.expect(204)),
        Happens::IsBanned => drop(ada.delete(&format!("{members}/{}?ban=true", bo.user)).await.expect(204)),
        Happens::MessageDeleted => drop(ada.delete(&format!("{messages}/{message}")).await.expect(204)),
        Happens::MentionDeleted => drop(cy.delete(&format!("{messages}/{mention}")).await.expect(204)),
        Happens::OwnMessageDeleted => drop(bo.delete(&format!("{messages}/{own}")).await.expect(204)),
        Happens::ReactionTakenBack => react(ada, circle, &own, Method::DELETE).await,
        Happens::CircleArchived => drop(ada.delete(&format!("/v1/circles/{circle}")).await.expect(204)),
    }
    let unread_left = left.iter().filter(|kind| !is_read || !matches!(**kind, "message" | "mention")).count();
    let mut expected = [left, &["message"]].concat();
    expected.sort_unstable();
    let what = format!("{happens:?}: what is not theirs is withdrawn, and nothing else");
    until(&what, async || kinds(bo).await == expected).await;
    assert_eq!(unread(bo).await, 1 + unread_left as u64, "{happens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_may_not_see_any_more_is_withdrawn_with_its_count() {
    let system = System::start().await;
    for is_read in [false, true] {
        for (happens, left) in CASES {
            system.forget_address_limits().await;
            play(&system, happens, left, is_read).await;
        }
    }
    check_counts(&system);
}

/// An invitation is withdrawn with its end. While its circle is archived it cannot be used, and tells nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_is_taken_back_is_withdrawn() {
    let system = System::start().await;
    let pair = Pair::new(&system).await;
    let Pair { ada, circle, .. } = &pair;
    let di = system.register("Di").await;
    let path = format!("/v1/circles/{circle}/invites");
    let invited = async || {
        let invite = ada.post(&path, json!({"user": di.user})).await.expect(201).text("/id");
        until("Di is told", async || unread(&di).await == 1).await;
        invite
    };
    let invite = invited().await;
    ada.delete(&format!("{path}/{invite}")).await.expect(204);
    until("it is withdrawn", async || unread(&di).await == 0).await;
    assert_eq!(di.get("/v1/notifications").await.expect(200).body["items"], json!([]));
    invited().await;
    ada.delete(&format!("/v1/circles/{circle}")).await.expect(204);
    let item = di.get("/v1/notifications").await.expect(200).body["items"][0].clone();
    assert_eq!((&item["circle"], &item["invite"]), (&Value::Null, &Value::Null));
    ada.post(&format!("/v1/circles/{circle}/restore"), Value::Null).await.expect(200);
    let item = di.get("/v1/notifications").await.expect(200).body["items"][0].clone();
    assert!(item["invite"].is_string() && item["circle"]["id"] == circle.as_str(), "{item:#}");
    // Whoever is banned can use none.
    ada.delete(&format!("/v1/circles/{circle}/members/{}?ban=true", di.user)).await.expect(204);
    until("it is withdrawn", async || unread(&di).await == 0).await;
    assert_eq!(di.get("/v1/notifications").await.expect(200).body["items"], json!([]));
    check_counts(&system);
}

/// A message is being deleted when a reaction to it is applied, and is deleted before the author is told of that.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_reaction_to_a_message_that_is_deleted_meanwhile() {
    let system = System::start().await;
    let pair = Pair::new(&system).await;
    let Pair { ada, bo, circle } = &pair;
    let message = bo.say(circle, "Mine.").await;
    let origin = &system.origins[0];
    origin.hold("flush.read", async || react(ada, circle, &message, Method::PUT).await).await;
    let (deletes, path) = (bo.clone(), format!("/v1/circles/{circle}/messages/{message}"));
    let deleting =
        origin.hold("tx.outbox", async || tokio::spawn(async move { deletes.delete(&path).await })).await;
    origin.hold("reactions.changed", async || origin.release_step("flush.read").await).await;
    origin.release_step("tx.outbox").await;
    deleting.await.unwrap().expect(204);
    let is_followed = "select count(*) from outbox where kind = 'message.deleted'
        and (xid, seq) <= (select xid, seq from projections where name = 'main')";
    until("the deletion is followed", async || system.sql(is_followed) == "1").await;
    origin.release().await;
    until("it is applied", async || system.sql("select count(*) from reactions") == "1").await;
    // What came after it has been told.
    ada.say(circle, "Afterwards.").await;
    until("Bo is told of a message", async || kinds(bo).await.contains(&"message".to_owned())).await;
    assert_eq!(kinds(bo).await, ["message"]);
    check_counts(&system);
}
