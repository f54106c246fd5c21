//! Many deliveries to receivers that fail in every way and die, while origins die: each is sent at least once and marked once, and
//! none goes to a private address.

use super::*;
use optimist_tests::until;

/// How the person's places answer, each with an address of its own. All but the last ones take each delivery in the end.
const WEBHOOKS: [&str; 9] =
    ["ok", "killed", "flaky", "busy", "dead", "stalling", "redirect", "astray", "gone"];
const BROWSERS: [&str; 6] = ["ok", "killed", "flaky", "narrow", "large", "gone"];
/// As many places take all.
const TAKING: u64 = 6 + 4;

struct Place {
    how: &'static str,
    receiver: Receiver,
    /// A browser, or a webhook's secret.
    read_by: Result<Browser, String>,
}

impl Place {
    /// The requests of deliveries, whose signatures hold and whose contents are for this place.
    fn received(&self) -> Vec<Received> {
        let received = self.receiver.received("/");
        let deliveries: Vec<Received> =
            received.into_iter().filter(|request| request.challenge().is_none()).collect();
        for request in &deliveries {
            let told = match &self.read_by {
                Ok(browser) => browser.read(&request.body),
                Err(secret) => {
                    check_signature(request, secret);
                    request.json()
                }
            };
            assert_eq!(told["data"]["id"].as_str().map(plain), Some(plain(request.id())));
        }
        deliveries
    }
}

/// A `Topic` has no hyphens.
fn plain(id: &str) -> String {
    id.replace('-', "")
}

/// Places that answer in all these ways. What leads astray leads to `private`.
async fn places(system: &System, client: &Client, private: &Receiver) -> Vec<Place> {
    let mut places = Vec::new();
    for (index, how) in WEBHOOKS.into_iter().chain(BROWSERS).enumerate() {
        system.forget_limits_of(client).await;
        let receiver = Receiver::start(&format!("127.0.1.{}", 1 + index)).await;
        let path = match how {
            "killed" => "ok/here".to_owned(),
            "astray" => format!("redirect/here?{}/ok/here", private.url),
            how => format!("{how}/here"),
        };
        let read_by = if index < WEBHOOKS.len() {
            Err(webhook(client, &receiver, &path).await.text("/secret"))
        } else {
            let browser = Browser::new(1 + index as u8);
            let url = format!("{}/{path}", receiver.url);
            subscribe(client, &url, Some(browser.keys())).await.expect(201);
            Ok(browser)
        };
        places.push(Place { how, receiver, read_by });
    }
    // As if it had been given before, or its name led elsewhere then.
    let url = private.url.replace("http:", "https:");
    plant_webhooks(system, &client.user, &[format!("{url}/ok/here")]);
    places
}

/// `OPTIMIST_COUNT_DELIVERIES` sets another number.
#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_is_sent_at_least_once_and_marked_once_whatever_receivers_do() {
    let count = optimist_tests::scale("OPTIMIST_COUNT_DELIVERIES", 640);
    let each = count / (WEBHOOKS.len() + BROWSERS.len() + 1) as u64;
    let mut system = System::with(Options {
        origins: 2,
        settings: vec![("OPTIMIST_OUTGOING_ALLOW", "127.0.1.0/24".to_owned()), without_pauses()],
        ..Options::default()
    })
    .await;
    let pair = Pair::new(&system).await;
    let private = Receiver::start("127.0.0.1").await;
    let places = places(&system, &pair.bo, &private).await;
    // A mark that is made twice would be an error: the trigger counts.
    system.sql(
        "create table marks (subject uuid, target uuid);
         grant insert on marks to serve;
         create function note_mark() returns trigger language plpgsql as $$ begin
             if new.ended_at is not null then insert into marks values (new.subject, new.target); end if;
             return null;
         end $$;
         create trigger note_mark after update on deliveries for each row execute function note_mark()",
    );
    let began = Instant::now();
    let subjects = plant(&system, &pair.bo.user, &pair.circle, each);
    let all = each * (places.len() + 1) as u64;
    // Origins die between sending and marking, and receivers at any time.
    for turn in 0..3 + count / 2_000 {
        let killed = places.iter().filter(|place| place.how == "killed");
        let receiver = &killed.cycle().nth(turn as usize).unwrap().receiver;
        receiver.kill();
        system.origins[1].arm("outgoing.sent", "abort", 0, 1).await;
        until("the origin dies", async || !system.origins[1].is_running()).await;
        system.replace_origin(1);
        system.to_origin.send_to(optimist_tests::system::address(&system.origins[0].api));
        receiver.launch().await;
    }
    let deadline = Instant::now() + Duration::from_secs(150 + count / 5);
    let ended = "select count(*) from deliveries where subject in (select id from notifications) and ended_at is not null";
    while system.sql(ended) != all.to_string() {
        assert!(Instant::now() < deadline, "{:?} after all that time", states(&system));
        // Claims of the dead lapse: an attempt takes ten seconds at most, or twice that.
        system.sql("update deliveries set due_at = now() - interval '1 second' where state = 'claimed' and due_at < now() + interval '18 seconds'");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    println!(
        "{all} deliveries have ended after {:.0} s: {:?}",
        began.elapsed().as_secs_f64(),
        states(&system)
    );
    assert_eq!(system.sql("select count(*) from marks"), all.to_string(), "each once");
    assert_eq!(
        system.sql("select count(*) from (select distinct subject, target from marks) m"),
        all.to_string()
    );
    let sent =
        "select count(*) from deliveries where subject in (select id from notifications) and state = 'sent'";
    assert_eq!(system.sql(sent), (TAKING * each).to_string(), "{:?}", states(&system));
    let subjects: BTreeSet<String> = subjects.iter().map(|id| plain(id)).collect();
    for place in &places {
        let received = place.received();
        let ids: BTreeSet<String> = received.iter().map(|one| plain(one.id())).collect();
        match place.how {
            // Forgotten with the first answer; a few more were under way.
            "gone" => assert!((1..=64).contains(&ids.len()) && ids.is_subset(&subjects)),
            how => assert_eq!(ids, subjects, "{how}: each at least once, and by its own id"),
        }
        let kind = if place.read_by.is_ok() { "push" } else { "webhook" };
        println!("{kind}, {}: {} requests for {} deliveries", place.how, received.len(), ids.len());
        assert!(place.receiver.received("/ok/redirected").is_empty(), "a redirect is not followed");
    }
    assert_eq!(private.connections(), 0, "nobody has connected to a private address");
}
