//! Receivers that fail, and origins that die: no delivery is lost, none is delayed by another's receiver, and none goes where it must
//! not.

use super::*;
use optimist_tests::until;

/// Webhooks at these URLs, and deliveries of as many notifications to each.
fn deliveries(system: &System, user: &str, circle: &str, urls: &[String], notifications: u64) {
    plant_webhooks(system, user, urls);
    plant(system, user, circle, notifications);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_sent_before_it_died_is_repeated_with_the_same_id() {
    let mut system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    webhook(&pair.bo, &receiver, "ok/hook").await;
    system.origins[0].arm("outgoing.sent", "abort", 0, 1).await;
    let message = pair.say().await;
    until("it dies", async || !system.origins[0].is_running()).await;
    assert_eq!(
        system.sql("select state from deliveries where reason is null and ended_at is null"),
        "claimed"
    );
    system.sql("update deliveries set due_at = now() where state = 'claimed'");
    system.replace_origin(0);
    let item = &ended(&pair.bo, &message, 1).await[0];
    assert_eq!((&item["state"], &item["attempts"]), (&json!("sent"), &json!(2)));
    let ids: Vec<String> =
        receiver.received("/ok/hook").iter().skip(1).map(|request| request.id().to_owned()).collect();
    assert_eq!(ids, [message.clone(), message]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_stalls_delays_no_other() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let (slow, quick) = (Receiver::start("127.0.0.2").await, Receiver::start("127.0.0.3").await);
    deliveries(&system, &pair.bo.user, &pair.circle, &[format!("{}/silent/hook", slow.url)], 300);
    until("it stalls", async || slow.received("/silent").len() >= 8).await;
    webhook(&pair.ada, &quick, "ok/hook").await;
    for _ in 0..10 {
        let began = Instant::now();
        let message = pair.bo.say(&pair.circle, "Hello.").await;
        assert_eq!(ended(&pair.ada, &message, 1).await[0]["state"], "sent");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        system.forget_limits_of(&pair.bo).await;
    }
    assert!(slow.received("/silent").len() <= 24, "its host has so many at once, and rests");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_to_a_private_address() {
    let system = System::with(Options {
        settings: vec![("OPTIMIST_OUTGOING_ALLOW", "127.0.0.2/32".to_owned()), without_pauses()],
        ..Options::default()
    })
    .await;
    let pair = Pair::new(&system).await;
    let (private, public) = (Receiver::start("127.0.0.1").await, Receiver::start("127.0.0.2").await);
    let port = private.url.rsplit(':').next().unwrap().to_owned();
    // As if they had been given before, or their names led elsewhere then.
    let urls = ["http://127.0.0.1", "https://127.0.0.1", "https://localhost", "https://[::ffff:127.0.0.1]"]
        .map(|host| format!("{host}:{port}/ok/hook"));
    deliveries(&system, &pair.bo.user, &pair.circle, &urls, 20);
    let failed = "select count(*), max(reason), max(attempts) from deliveries where state = 'failed'";
    until("all have failed", async || {
        assert_eq!(private.connections(), 0);
        system.sql(failed) == "80|address|1"
    })
    .await;
    // And from a public address nothing is led to a private one.
    let leading = format!("{}/redirect/hook?{}/ok/hook", public.url, private.url);
    deliveries(&system, &pair.ada.user, &pair.circle, &[leading], 5);
    let again = "select count(*) from deliveries where reason = 'redirects'";
    until("each has been led elsewhere", async || system.sql(again) == "5").await;
    assert_eq!(private.connections(), 0, "{:#?}", private.received("/"));
    assert!(public.connections() > 0);
}

/// Two origins look for what is due, many times while each delivery is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_under_way_is_nobody_elses() {
    let system = System::with(Options { origins: 2, ..hurried() }).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    deliveries(&system, &pair.bo.user, &pair.circle, &[format!("{}/slow/hook", receiver.url)], 6);
    until("all are sent", async || states(&system).get("sent") == Some(&6)).await;
    assert_eq!(receiver.received("/slow").len(), 6);
    assert_eq!(system.sql("select max(attempts) from deliveries"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_whose_claim_has_lapsed_marks_nothing() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    let row = || system.sql("select state, attempts from deliveries");
    let lapse = || system.sql("update deliveries set due_at = now() - interval '1 minute'");
    let url = format!("{}/ok/hook", receiver.url);
    let first = &system.origins[0];
    first.hold("outgoing.sent", async || deliveries(&system, &pair.bo.user, &pair.circle, &[url], 1)).await;
    assert_eq!(row(), "claimed|1");
    first.hold("outgoing.claimed", async || lapse()).await;
    first.release_step("outgoing.sent").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(row(), "claimed|2", "the second sender has it");
    first.release().await;
    until("the second sender marks it", async || row() == "sent|2").await;
    let ids: BTreeSet<String> = receiver.received("/ok").iter().map(|one| one.id().to_owned()).collect();
    assert_eq!((receiver.received("/ok").len(), ids.len()), (2, 1), "repeated with the same id");
}

/// As a push service is sent what everyone in a circle is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_to_one_provider_is_not_put_off() {
    let system = System::start().await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    deliveries(&system, &pair.bo.user, &pair.circle, &[format!("{}/brief/hook", receiver.url)], 200);
    until("all are sent", async || states(&system).get("sent") == Some(&200)).await;
    assert_eq!(system.origins[0].passes("outgoing.claimed").await, 200, "each is claimed once");
}

/// Without Redis the rows alone are enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_lost_loses_no_delivery() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    deliveries(&system, &pair.bo.user, &pair.circle, &[format!("{}/ok/hook", receiver.url)], 100);
    for _ in 0..20 {
        let mut redis = system.redis.connect().await;
        let keys: Vec<String> = redis::cmd("KEYS").arg("outgoing:*").query_async(&mut redis).await.unwrap();
        if !keys.is_empty() {
            let _: () = redis::cmd("DEL").arg(keys).query_async(&mut redis).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("all are sent", async || states(&system).get("sent") == Some(&100)).await;
    system.origin_to_redis.cut();
    deliveries(&system, &pair.ada.user, &pair.circle, &[format!("{}/ok/other", receiver.url)], 100);
    until("all are sent without Redis", async || states(&system).get("sent") == Some(&200)).await;
}
