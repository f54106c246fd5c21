//! Neighbours: what ordinary clients notice of an account that does the worst its limits allow, in one way after another.
//!
//! Bystanders read and post at 30 per cent of what the system can do, open loop. Beside them the adversary sends its worst
//! requests, and in the control the same number of harmless ones. Each turn has a new adversary, whose limits are whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use optimist_tests::system::TOLD_CIRCLES;
use optimist_tests::{Edge, Kind};
use serde_json::{Value, json};

use crate::Settings;
use crate::closed_loop::Subject;
use crate::http1::{Connection, Request, authority};
use crate::region::{Member, Region};
use crate::report::{Figure, Outcome, Side, Target};

/// Enough that none posts more than ten messages a minute.
const BYSTANDERS: usize = 1_500;
/// Of what the system can do.
const LOAD: f64 = 0.3;
/// The most that the bystanders' slowest hundredth may slow down.
const BOUND: f64 = 2.0;

/// The adversary's kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Changes a member's role to and fro.
    Roles,
    /// Lists a thousand notifications and marks them as read.
    Notifications,
    /// Leaves, and removes others from, a busy circle that it is not in.
    Strangers,
    /// Reads one of a hundred messages that are as long as possible.
    Pages,
    /// Changes the mood of its longest journal entry.
    Entries,
    /// Saves its longest drafts.
    Drafts,
    /// Guesses a password.
    Passwords,
    /// Guesses sessions.
    Tokens,
}

const WAYS: [Way; 8] = [
    Way::Roles,
    Way::Notifications,
    Way::Strangers,
    Way::Pages,
    Way::Entries,
    Way::Drafts,
    Way::Passwords,
    Way::Tokens,
];

impl Way {
    fn what(self) -> &'static str {
        match self {
            Way::Roles => "changes a role",
            Way::Notifications => "lists and reads notifications",
            Way::Strangers => "leaves a circle that it is not in",
            Way::Pages => "reads the longest page",
            Way::Entries => "edits the longest entry",
            Way::Drafts => "saves the longest drafts",
            Way::Passwords => "guesses a password",
            Way::Tokens => "guesses sessions",
        }
    }

    /// Requests that a minute's limits allow.
    fn requests(self) -> usize {
        match self {
            Way::Passwords => 30,
            Way::Drafts => 50,
            Way::Entries => 60,
            Way::Pages => 3_000,
            _ => 600,
        }
    }
}

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Embedded);
    let mut figures = Vec::new();
    for way in WAYS {
        let members = region.people(BYSTANDERS);
        let circle = region.circle_of(&members);
        let mut bystanders = bystanders(&region, &edge, &members, &circle);
        warm(&bystanders);
        let rate = bystanders.run(3).await.requests_per_second() * LOAD;
        let (mut beside_worst, mut beside_harmless) = (Vec::new(), Vec::new());
        for turn in 0..=settings.turns {
            for (is_worst, slowest) in [(true, &mut beside_worst), (false, &mut beside_harmless)] {
                let adversary = region.people(2);
                let requests = match is_worst {
                    true => worst(way, &region, &edge, &adversary, &circle).await,
                    false => vec![request(&edge, &adversary[0], "GET", "/v1/me", Value::Null)],
                };
                let sending = send(&edge.url, requests, way.requests(), settings.seconds);
                let latencies = bystanders.at_rate(rate, settings.seconds).await;
                sending.join().expect("the adversary");
                // The next turn goes on with those who have not posted for the longest time.
                let sent = (rate * settings.seconds as f64) as usize;
                let everyone = bystanders.requests.len();
                bystanders.requests.rotate_left(sent % everyone);
                // The first turn is a warm-up.
                if turn > 0 {
                    slowest.push(latencies.percentile(99.0));
                }
            }
        }
        figures.push(Figure::times(
            &format!("bystanders' p99 beside an account that {}", way.what()),
            Side::new("beside it", "ms", beside_worst),
            Side::new("beside as many harmless requests", "ms", beside_harmless),
            Target::AtMost(BOUND),
        ));
    }
    Outcome { figures, plots: Vec::new() }
}

fn request(edge: &Edge, who: &Member, method: &str, path: &str, body: Value) -> Request {
    let authorization = format!("Bearer {}", who.token.render());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let headers = if body.is_empty() { &headers[..1] } else { &headers[..] };
    Request::new(method, authority(&edge.url), path, headers, body.as_bytes())
}

/// Of five requests three are read from Redis, one from Postgres, and one posts a message.
fn bystanders(region: &Region, edge: &Edge, members: &[Member], circle: &str) -> Subject {
    let messages = format!("/v1/circles/{circle}/messages");
    let requests = members.iter().flat_map(|member| {
        let read = |path: &str| request(edge, member, "GET", path, Value::Null);
        let post = request(edge, member, "POST", &messages, json!({"body": "Good morning."}));
        [read(&messages), read("/v1/me"), read(&messages), read("/v1/notifications"), post]
    });
    Subject {
        name: "bystanders".to_owned(),
        url: edge.url.clone(),
        workers: region.all_workers(edge),
        requests: requests.collect(),
        is_right: |answer| answer.status == 200 || answer.status == 201,
    }
}

/// Sends every read once.
fn warm(subject: &Subject) {
    let mut connection = Connection::open(&subject.url).expect("a connection");
    for request in subject.requests.iter().filter(|request| request.0.starts_with(b"GET")) {
        let answer = connection.send(request).expect("an answer");
        assert!((subject.is_right)(&answer), "{answer:?}");
    }
}

/// Prepares the adversary's account, and returns its requests, to be sent in turn.
async fn worst(
    way: Way,
    region: &Region,
    edge: &Edge,
    adversary: &[Member],
    busy_circle: &str,
) -> Vec<Request> {
    let [one, other] = adversary else { panic!("two accounts") };
    let client = one.client(&edge.url);
    let send = |method, path: &str, body| request(edge, one, method, path, body);
    match way {
        Way::Roles => {
            let circle = region.circle_of(adversary);
            let path = format!("/v1/circles/{circle}/members/{}", other.user);
            ["moderator", "member"].map(|role| send("PATCH", &path, json!({"role": role}))).to_vec()
        }
        Way::Notifications => {
            let circle = region.circle_of(adversary);
            region.sql(&format!(
                "insert into notifications (user_id, month, id, kind, circle_id, actor_id, place, created_at, updated_at)
                 select '{0}', id_month(id_at(next_place(null, 1))), id_at(next_place(null, 1)), 'message', '{circle}', '{1}', n, now(), now()
                 from generate_series(1, 1000) n;
                 insert into notification_counts (user_id, unread, held, last_place) values ('{0}', 1000, 1000, 1000)",
                one.user, other.user
            ));
            vec![
                send("GET", "/v1/notifications?limit=100", Value::Null),
                send("POST", "/v1/notifications/read", Value::Null),
            ]
        }
        Way::Strangers => {
            let of = |who: &str| format!("/v1/circles/{busy_circle}/members/{who}");
            let theirs = other.user.to_string();
            vec![
                send("DELETE", &of("me"), Value::Null),
                send("DELETE", &of(&theirs), Value::Null),
                send("PATCH", &of(&theirs), json!({"role": "member"})),
            ]
        }
        Way::Pages => {
            let circle = region.circle_of(adversary);
            region.sql(&format!(
                "update messages set body = repeat('\u{1f642}', 8000) where circle_id = '{circle}';
                 insert into messages (id, circle_id, number, author_id, body)
                 select id_at(next_place(null, 1) + n), '{circle}', 20 + n, '{}', repeat('\u{1f642}', 8000)
                 from generate_series(1, 80) n;
                 update circles set last_number = 100 where id = '{circle}';
                 {TOLD_CIRCLES}",
                one.user
            ));
            let path = format!("/v1/circles/{circle}/messages?limit=1");
            client.get(&path).await.expect(200);
            vec![send("GET", &path, Value::Null)]
        }
        Way::Entries => {
            let entry = json!({"body": "\u{1f642}".repeat(50_000), "mood": 3});
            let made = client.post("/v1/journal/entries", entry).await.expect(201);
            let path = format!("/v1/journal/entries/{}", made.text("/id"));
            [1, 5].map(|mood| send("PATCH", &path, json!({"mood": mood}))).to_vec()
        }
        Way::Drafts => {
            let draft = |number: u128| {
                let path = format!("/v1/journal/drafts/{}", uuid::Uuid::from_u128(number));
                send("PUT", &path, json!({"body": "\u{1f642}".repeat(50_000), "base_version": null}))
            };
            (1..=50).map(draft).collect()
        }
        Way::Passwords => {
            let body =
                json!({"email": format!("{}@example.org", other.user), "password": "not this one, I fear"});
            vec![Request::new(
                "POST",
                authority(&edge.url),
                "/v1/auth/login",
                &[("content-type", "application/json")],
                body.to_string().as_bytes(),
            )]
        }
        Way::Tokens => {
            let guess = |_: usize| request(edge, &Member::random(), "GET", "/v1/me", Value::Null);
            (0..100).map(guess).collect()
        }
    }
}

/// Sends `count` requests at an even rate, over a few connections. Their answers do not matter.
fn send(url: &str, requests: Vec<Request>, count: usize, seconds: u64) -> std::thread::JoinHandle<()> {
    const CONNECTIONS: usize = 8;
    let (url, next, began) = (url.to_owned(), AtomicUsize::new(0), Instant::now());
    let apart = Duration::from_secs(seconds).div_f64(count as f64);
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    let mut connection = Connection::open(&url).expect("a connection");
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let due = began + apart.mul_f64(number as f64);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        // A connection may be closed on it.
                        if connection.send(&requests[number % requests.len()]).is_err() {
                            connection = Connection::open(&url).expect("a connection");
                        }
                    }
                });
            }
        });
    })
}
