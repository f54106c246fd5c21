//! Receivers that fail in every way, and origins that die: each delivery is sent at least once, is marked once, and never goes where
//! it must not.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Webhooks that exist and are verified, without their challenges; deliveries of as many notifications to each.
fn deliveries(system: &System, user: &str, circle: &str, urls: &[String], notifications: u64) {
    let hooks: String = urls
        .iter()
        .map(|url| {
            format!(
                "insert into push_tokens (user_id, id, channel, endpoint, token_key, verified_at)
                 values ('{user}', gen_random_uuid(), 'webhook', '{url}', 't1', now());"
            )
        })
        .collect();
    system.sql(&format!(
        "{hooks}
         insert into notification_counts (user_id, unread) values ('{user}', 0) on conflict do nothing;
         insert into notifications (user_id, month, id, kind, circle_id, actor_id, role, place, created_at, updated_at)
         select '{user}', id_month(id), id, 'role', '{circle}', '{user}', 'member', 1, now(), now()
         from (select id_at(next_place(null, 1) + n) as id from generate_series(1, {notifications}) n) ids;
         insert into deliveries (user_id, subject, target, channel)
         select '{user}', n.id, t.id, 'webhook' from notifications n, push_tokens t
         where n.kind = 'role' and n.user_id = '{user}' and t.user_id = '{user}'"
    ));
}

/// Rows by state.
fn states(system: &System) -> BTreeMap<String, u64> {
    let rows = system.sql("select state, count(*) from deliveries group by state order by state");
    let row = |line: &str| {
        let (state, count) = line.split_once('|').unwrap();
        (state.to_owned(), count.parse().unwrap())
    };
    rows.lines().map(row).collect()
}

/// `OPTIMIST_COUNT_DELIVERIES` sets another number.
#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_is_sent_at_least_once_and_marked_once_whatever_receivers_do() {
    const HOWS: [&str; 6] = ["ok", "flaky", "busy", "dead", "redirect", "gone"];
    let count = optimist_tests::scale("OPTIMIST_COUNT_DELIVERIES", 1_200);
    let each = count / HOWS.len() as u64;
    let mut system = System::with(Options { origins: 2, ..hurried() }).await;
    let pair = Pair::new(&system).await;
    let mut receivers = Vec::new();
    for (index, how) in HOWS.iter().enumerate() {
        receivers.push((*how, Receiver::start(&format!("127.0.0.{}", 10 + index)).await));
    }
    // A mark that is made twice would be an error: the trigger counts.
    system.sql(
        "create table marks (subject uuid, target uuid, state text);
         grant insert on marks to serve;
         create function note_mark() returns trigger language plpgsql as $$ begin
             if new.ended_at is not null then insert into marks values (new.subject, new.target, new.state); end if;
             return null;
         end $$;
         create trigger note_mark after update on deliveries for each row execute function note_mark()",
    );
    let urls: Vec<String> =
        receivers.iter().map(|(how, receiver)| format!("{}/{how}/hook", receiver.url)).collect();
    deliveries(&system, &pair.bo.user, &pair.circle, &urls, each);
    let all = each * HOWS.len() as u64;
    // Origins die between sending and marking, again and again.
    for _ in 0..3 {
        system.origins[1].arm("outgoing.sent", "abort", 0, 1).await;
        until("the origin dies", async || !system.origins[1].is_running()).await;
        system.replace_origin(1);
        system.to_origin.send_to(optimist_tests::system::address(&system.origins[0].api));
    }
    let deadline = Instant::now() + Duration::from_secs(120 + count / 20);
    loop {
        let ended: u64 = states(&system)
            .iter()
            .filter(|(state, _)| !matches!(state.as_str(), "queued" | "claimed"))
            .map(|(_, n)| n)
            .sum();
        if ended == all {
            break;
        }
        assert!(Instant::now() < deadline, "{:?} after all that time: {}", states(&system), system.sql("select endpoint, d.state, reason, attempts, count(*), min(due_at - now()), max(due_at - now()) from deliveries d left join push_tokens t on t.id = d.target where ended_at is null group by 1, 2, 3, 4"));
        // Claims of the dead lapse.
        system.sql("update deliveries set due_at = now() - interval '1 second' where state = 'claimed' and due_at < now() + interval '25 seconds'");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(system.sql("select count(*) from marks"), all.to_string(), "each once");
    assert_eq!(
        system.sql("select count(*) from (select distinct subject, target from marks) m"),
        all.to_string()
    );
    let sent = system.sql("select count(*) from deliveries where state = 'sent'");
    assert_eq!(sent, (4 * each).to_string(), "{:?}", states(&system));
    for (how, receiver) in &receivers {
        let received = receiver.received("/");
        let ids: BTreeSet<&str> = received.iter().map(|one| one.id()).collect();
        match *how {
            // Forgotten with the first answer; a few more were under way.
            "gone" => assert!((1..=64).contains(&ids.len()), "{how}: {} of {each}", ids.len()),
            _ => assert_eq!(ids.len() as u64, each, "{how}: each at least once"),
        }
        assert!(receiver.received("/ok/redirected").is_empty(), "a redirect is not followed");
        println!("{how}: {} requests for {} deliveries", received.len(), ids.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_sent_before_it_died_is_repeated_with_the_same_id() {
    let mut system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let receiver = Receiver::start("127.0.0.2").await;
    webhook(&pair.bo, &receiver, "hook").await;
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
        receiver.received("/echo/hook").iter().skip(1).map(|request| request.id().to_owned()).collect();
    assert_eq!(ids, [message.clone(), message]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_stalls_delays_no_other() {
    let system = System::with(hurried()).await;
    let pair = Pair::new(&system).await;
    let (slow, quick) = (Receiver::start("127.0.0.2").await, Receiver::start("127.0.0.3").await);
    deliveries(&system, &pair.bo.user, &pair.circle, &[format!("{}/silent/hook", slow.url)], 300);
    until("it stalls", async || slow.received("/silent").len() >= 8).await;
    webhook(&pair.ada, &quick, "hook").await;
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
