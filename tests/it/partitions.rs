//! Tables brought into partitions while people go on writing, and partitions made and dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use optimist_tests::stores::SHARED;
use optimist_tests::system::{FORMER, FORMER_ORIGIN, environment};
use optimist_tests::unlimited::Unlimited;
use optimist_tests::{Answer, Client, Crowd, Kind, Options, Origin, System, scale};
use reqwest::Method;
use serde_json::{Value, json};

/// Rows of an earlier release: numbers that disagree with ids, since clocks did; and a year of months.
const EARLIER: &str = "
    insert into users (id, email, password_hash, name, home_region)
    select md5('person' || n)::uuid, 'person' || n || '@example.org', 'none', 'Person ' || n, 'test' from generate_series(1, 100) n;
    insert into circles (id, name, visibility, owner_id, last_number)
    select ('018bcfe5-6800-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Circle ' || n, 'public', md5('person1')::uuid, 500
    from generate_series(1, 40) n;
    insert into memberships (circle_id, user_id, role)
    select c.id, u.id, case when u.id = c.owner_id then 'owner' else 'member' end from circles c, users u;
    insert into messages (id, circle_id, number, author_id, body)
    select (lpad(to_hex((extract(epoch from now() - interval '1 year' * random()) * 1000)::bigint), 12, '0')
            || '7' || substr(md5(c.id::text || n), 1, 3) || '8' || substr(md5(c.id::text || n), 4, 15))::uuid,
        c.id, n, md5('person' || n % 100 + 1)::uuid, 'Message ' || n
    from circles c, generate_series(1, 500) n;
    insert into reactions (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
    select circle_id, id, k, md5('person' || k)::uuid, true, 1, 0, 0, false, now() from messages, generate_series(1, 2) k;
    insert into reaction_counts (circle_id, message_id, kind, count) select circle_id, id, k, 1 from messages, generate_series(1, 2) k;
    insert into notifications (user_id, id, kind, circle_id, message_id, created_at, updated_at, place)
    select md5('person2')::uuid, id, 'message', circle_id, id, now(), now(), number from messages where number <= 20;
    insert into notification_counts (user_id, unread, last_place, held)
    select md5('person2')::uuid, count(*), count(*), count(*) from notifications;
    insert into activity (circle_id, user_id, day, posts, last_seen_at)
    select c.id, u.id, current_date - d, 1, now() from circles c, users u, generate_series(0, 3) d;";

/// Sends a request as an app does: one that came to nothing at a busy moment is sent again, a few times.
async fn ask(client: &Client, method: Method, path: &str, key: &str, body: Value) -> Answer {
    let headers = [("idempotency-key", key)];
    let headers = if key.is_empty() { &[] } else { &headers[..] };
    let mut left = 5;
    loop {
        let body = (!body.is_null()).then(|| body.to_string().into_bytes());
        let answer = client.send(method.clone(), path, headers, body).await;
        if answer.status != 503 || left == 0 {
            return answer;
        }
        assert!(!answer.header("retry-after").is_empty(), "{answer:#?}");
        left -= 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whoever reads or writes while tables change must not notice more than that.
struct Going {
    stop: Arc<AtomicBool>,
    posted: tokio::task::JoinHandle<Vec<(String, i64)>>,
}

fn keep_posting(system: &System, clients: Vec<Client>, circle: String) -> Going {
    let unlimited = Unlimited::new(system);
    let stop = Arc::new(AtomicBool::new(false));
    let posted = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut posted = Vec::new();
            for turn in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let client = &clients[turn % clients.len()];
                unlimited.forget(client).await;
                let path = format!("/v1/circles/{circle}/messages");
                let (key, body) = (format!("turn-{turn}"), json!({"body": format!("Turn {turn}.")}));
                let message = ask(client, Method::POST, &path, &key, body).await.expect(201);
                let id = message.text("/id").to_owned();
                let reaction = format!("{path}/{id}/reactions/hug");
                ask(client, Method::PUT, &reaction, "", Value::Null).await.expect(202);
                let change = json!({"body": "Changed."});
                ask(client, Method::PATCH, &format!("{path}/{id}"), "", change).await.expect(200);
                posted.push((id, message.body.pointer("/number").and_then(Value::as_i64).unwrap()));
                ask(client, Method::GET, &format!("{path}?limit=5"), "", Value::Null).await.expect(200);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            posted
        }
    });
    Going { stop, posted }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_brought_into_partitions_while_people_write() {
    let (owner, serve) = SHARED.database();
    let settings = environment(&owner, &serve, "redis://127.0.0.1:1", 250);
    let migrate = |arguments: &[&str]| {
        let (succeeded, output) = Origin::command(&settings, arguments);
        assert!(succeeded, "{output}");
        output
    };
    let database = serve.rsplit('/').next().unwrap().to_owned();
    let sql = |sql: &str| SHARED.sql(&database, sql);
    migrate(&["migrate", "--to", FORMER]);
    sql(EARLIER);

    // An origin of the release before lives: the schema changes, and the tables stay as they are.
    sql(FORMER_ORIGIN);
    let output = migrate(&["migrate"]);
    assert!(output.contains("origins of an earlier release live"), "{output}");
    assert_eq!(sql("select relkind from pg_class where relname = 'messages'"), "r");
    assert_eq!(sql("select count(*) from notifications where month is distinct from id_month(id)"), "0");

    // This release serves in between.
    let system = System::with(Options { database: Some((owner, serve)), ..Options::default() }).await;
    let (ada, bob) = (system.register("Ada").await, system.register("Bob").await);
    let circle = ada.create_circle("public").await;
    bob.join(&circle, &ada).await;
    let going = keep_posting(&system, vec![ada.clone(), bob.clone()], circle.clone());
    let before = sql(
        "select count(*) || ' ' || count(distinct (circle_id, number)) from messages where author_id in (select id from users where email like 'person%')",
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    sql("delete from origins where region = 'elsewhere'");
    let lags = watch_lag(&system);
    let output = tokio::task::spawn_blocking({
        let settings = settings.clone();
        move || Origin::command(&settings, &["migrate"])
    })
    .await
    .unwrap();
    assert!(output.0, "{}", output.1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    going.stop.store(true, Ordering::SeqCst);
    let posted = going.posted.await.unwrap();
    assert!(posted.len() > 10, "{}", posted.len());
    let worst = lags.await;
    assert!(worst < Duration::from_secs(2), "the relay lagged by {worst:?}");

    assert_eq!(sql("select string_agg(relkind::text, '' order by relname) from pg_class where relname in
        ('messages', 'reactions', 'reaction_counts', 'activity', 'notifications', 'notification_actors', 'outbox')"), "ppppppp");
    assert_eq!(
        sql(
            "select count(*) || ' ' || count(distinct (circle_id, number)) from messages where author_id in (select id from users where email like 'person%')"
        ),
        before
    );
    assert_eq!(
        sql(
            "select count(*) from (select number - lag(number, 1, 0::bigint) over (partition by circle_id order by id) as step from messages) each where step <> 1"
        ),
        "0",
        "numbers are in the order of ids, without gaps"
    );
    let found: BTreeMap<String, String> =
        sql(&format!("select id, body from messages where circle_id = '{circle}'"))
            .lines()
            .map(|line| line.split_once('|').map(|(id, body)| (id.to_owned(), body.to_owned())).unwrap())
            .collect();
    assert!(
        posted.iter().all(|(id, _)| found.get(id).is_some_and(|body| body == "Changed.")),
        "a post or an edit is lost"
    );
    assert!(posted.is_sorted_by(|one, next| one.1 < next.1), "numbers grow: {posted:?}");

    // The whole history of a circle is read, page by page, in its order.
    let path = "/v1/circles/018bcfe5-6800-7000-8000-000000000001/messages";
    let (mut numbers, mut next) = (Vec::new(), String::new());
    loop {
        let page = ada.get(&format!("{path}?limit=100{next}")).await.expect(200);
        let items = page.body["items"].as_array().unwrap().clone();
        numbers.extend(items.iter().map(|item| item["number"].as_i64().unwrap()));
        let Some(cursor) = page.body["next"].as_str() else { break };
        next = format!("&before={cursor}");
    }
    assert_eq!(numbers, (1..=500).rev().collect::<Vec<i64>>());
    let page = ada.get(&format!("{path}?after=250&limit=3")).await.expect(200);
    let after: Vec<i64> =
        page.body["items"].as_array().unwrap().iter().map(|item| item["number"].as_i64().unwrap()).collect();
    assert_eq!(after, [251, 252, 253]);
    migrate(&["migrate"]);
}

/// The relay's worst lag, until the value is awaited.
fn watch_lag(system: &System) -> impl Future<Output = Duration> + use<> {
    let url = system.origins[0].internal.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            let (mut worst, began) = (0.0f64, Instant::now());
            while !stop.load(Ordering::SeqCst) && began.elapsed() < Duration::from_secs(300) {
                let page = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
                let lag = page.lines().find_map(|line| line.strip_prefix("optimist_relay_behind_seconds"));
                let lag = lag.and_then(|rest| rest.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0);
                worst = worst.max(lag);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            worst
        }
    });
    async move {
        stop.store(true, Ordering::SeqCst);
        Duration::from_secs_f64(task.await.unwrap())
    }
}

/// Posts until it is acknowledged: on a busy machine an answer may be late, and a million are many.
async fn insist(person: &Client, path: &str, key: &str) {
    let deadline = optimist_tests::patience();
    loop {
        let body = Some(json!({"body": "Hello."}).to_string().into_bytes());
        match person.try_send(Method::POST, path, &[("idempotency-key", key)], body).await {
            Ok(answer) if answer.status == 201 => return,
            Ok(answer) if ![409, 503, 504].contains(&answer.status) => panic!("{answer:#?}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        assert!(Instant::now() < deadline, "a post is not taken");
    }
}

/// However far the origins' clocks are apart: Postgres gives the ids, in the order of the numbers.
#[tokio::test(flavor = "multi_thread")]
async fn ids_and_numbers_agree_whatever_the_origins_clocks_say() {
    /// Posts of one person between two resets of their limit, which admits ten in a minute.
    const UNCOUNTED: u64 = 8;
    let system = System::with(Options { origins: 2, ..Options::default() }).await;
    let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
    let edges = [&system.edge.url, &other_edge.url];
    let crowd = Crowd::new(&system, 32, 3, 1).await;
    system.origins[1].set_clock(chrono::Utc::now() + chrono::Duration::days(3)).await;
    let posts = scale("OPTIMIST_POSTS", 4_000);
    let each = posts / crowd.people().len() as u64;
    let unlimited = Arc::new(Unlimited::new(&system));
    let tasks: Vec<_> = crowd
        .people()
        .iter()
        .enumerate()
        .map(|(index, person)| {
            let person = person.at(edges[index % 2]);
            let (crowd, unlimited) = (crowd.clone(), unlimited.clone());
            tokio::spawn(async move {
                for number in 0..each {
                    if number % UNCOUNTED == 0 {
                        unlimited.forget(&person).await;
                    }
                    let circle = &crowd.circles()[number as usize % 3];
                    let path = format!("/v1/circles/{circle}/messages");
                    insist(&person, &path, &format!("post-{number}")).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let disagreeing = "select count(*), coalesce(sum((step is distinct from 1)::int), 0) from (
        select number - lag(number, 1, 0::bigint) over (partition by circle_id order by id) as step from messages) each";
    assert_eq!(system.sql(disagreeing), format!("{}|0", each * crowd.people().len() as u64 + 3));
    let late = "select count(*) from messages where id_time(id) > now() + interval '1 minute'";
    assert_eq!(system.sql(late), "0", "no origin's clock decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_of_words_are_built_while_people_write() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let circle = ada.create_circle("public").await;
    // As the migration leaves full tables; and somebody has stopped the building of a part.
    let leaf = system.sql("select leaf_name('messages', leaf_now('messages'))");
    let index = "using gin (message_words(circle_id, author_id, id, body)) with (fastupdate = off) where deleted_at is null";
    system.sql(&format!(
        "drop index messages_words; drop index circles_found;
         create index messages_words on only messages {index};
         create index {leaf}_words on {leaf} {index};
         update pg_index set indisvalid = false where indexrelid = '{leaf}_words'::regclass"
    ));
    let valid = "select string_agg(indisvalid::text, ' ') from pg_index
        where indexrelid in ('messages_words'::regclass, to_regclass('circles_found'))";
    assert_eq!(system.sql(valid), "false");
    let going = keep_posting(&system, vec![ada.clone()], circle);
    let settings = system.environment();
    let output = tokio::task::spawn_blocking(move || Origin::command(&settings, &["migrate"])).await.unwrap();
    assert!(output.0, "{}", output.1);
    going.stop.store(true, Ordering::SeqCst);
    assert!(!going.posted.await.unwrap().is_empty());
    assert_eq!(system.sql(valid), "true true");
    let parts = "select count(*) = (select count(*) from leaves('messages')) from pg_inherits where inhparent = 'messages_words'::regclass";
    assert_eq!(system.sql(parts), "t");
    let found = ada.get("/v1/search?q=changed&limit=1").await.expect(200);
    assert_eq!(found.body["items"][0]["message"]["body"], "Changed.");
}
