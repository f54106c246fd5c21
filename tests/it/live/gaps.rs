//! Clients whose connections end in every way, while origins and Redis die: each receives every event once, in order.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use optimist_tests::live::{Transport, connect};
use optimist_tests::proxy::{Mode, Proxy};
use optimist_tests::{Client, Options, System};

use super::{BOTH, events_of, gateway, ids_of, number};

/// Connections of one person.
const EACH: usize = 4;

/// What a client has seen over all its connections.
#[derive(Default)]
struct Record {
    ids: Vec<String>,
    /// Whether it was told that its history had ended.
    was_told: bool,
}

/// How a client's connections end.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Clean,
    Cut,
    HalfOpen,
    Slow,
}

/// Listens until it has seen the last event, with connections that end.
async fn wander(
    gateway: String,
    client: Client,
    transport: Transport,
    manner: Manner,
    last: Arc<OnceLock<String>>,
) -> Record {
    let proxy = Proxy::start(&gateway).await;
    let mut record = Record::default();
    let mut position: Option<String> = None;
    let mut turn = 0u64;
    let mut refused = std::collections::BTreeMap::new();
    let mut since_end: Option<Instant> = None;
    loop {
        if last.get().is_some() {
            let waited = since_end.get_or_insert_with(Instant::now).elapsed();
            if waited > Duration::from_secs(45) {
                eprintln!(
                    "{transport:?} {manner:?}: {} events to {position:?}, refused {refused:?}",
                    record.ids.len()
                );
                return record;
            }
        }
        proxy.set(Mode::Open);
        let query = position.as_ref().map_or_else(String::new, |id| format!("?last_event_id={id}"));
        let answer =
            client.try_send(reqwest::Method::POST, "/v1/realtime/tickets", &[], Some(b"{}".to_vec())).await;
        let connected = match answer {
            Ok(answer) if answer.status == 201 => {
                let ticket = answer.text("/ticket");
                let address = proxy.address();
                let attempt = connect(&address, transport, &ticket, &query);
                tokio::time::timeout(Duration::from_secs(5), attempt).await.unwrap_or(Err(1))
            }
            Ok(answer) => Err(answer.status),
            Err(_) => Err(2),
        };
        if let Err(status) = &connected {
            *refused.entry(*status).or_insert(0) += 1;
        }
        let Ok(mut listener) = connected else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        turn += 1;
        let ends = Instant::now() + Duration::from_millis(300 + turn * 211 % 700);
        loop {
            let Some(frame) = listener.within(ends.saturating_duration_since(Instant::now())).await else {
                break;
            };
            if matches!(manner, Manner::Slow) && turn.is_multiple_of(3) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if let Some(id) = frame["id"].as_str() {
                position = Some(id.to_owned());
            }
            if frame["type"] == "message.deleted" {
                record.ids.push(frame["id"].as_str().unwrap().to_owned());
            }
            record.was_told |= frame["type"] == "ready" && frame["data"]["recovered"] == false;
            if record.ids.last().is_some_and(|id| last.get() == Some(id)) {
                return record;
            }
        }
        match manner {
            Manner::Clean | Manner::Slow => {}
            Manner::Cut => proxy.cut(),
            Manner::HalfOpen => {
                proxy.set(Mode::HalfOpen);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
    }
}

/// `OPTIMIST_EVENTS` and `OPTIMIST_LISTENERS` set other numbers.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_gap_whoever_dies() {
    let events = optimist_tests::scale("OPTIMIST_EVENTS", 10_000) as u32;
    let listeners = optimist_tests::scale("OPTIMIST_LISTENERS", 8) as usize;
    let mut system = System::with(Options { origins: 2, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    let circles = [ada.create_circle("private").await, ada.create_circle("private").await];
    let mut people = vec![ada.clone()];
    while people.len() < listeners.div_ceil(EACH) {
        let person = system.register("Bo").await;
        for circle in &circles {
            system.forget_limits_of(&ada).await;
            person.join(circle, &ada).await;
        }
        people.push(person);
    }
    // The second origin lives: subscribers connect to it. The first dies, and Redis restarts.
    let gateway = gateway(&system, 1);
    let last = Arc::new(OnceLock::new());
    let mut clients = Vec::new();
    let manners = [Manner::Clean, Manner::Cut, Manner::HalfOpen, Manner::Slow];
    for (index, manner) in manners.into_iter().cycle().take(listeners).enumerate() {
        let (person, transport) = (people[index % people.len()].clone(), BOTH[index / 4 % 2]);
        clients.push(tokio::spawn(wander(gateway.clone(), person, transport, manner, last.clone())));
    }
    let steps = events / 100;
    let between = (steps / 5).clamp(1, 40);
    for step in 0..steps {
        for (index, circle) in circles.iter().enumerate() {
            let from = step * 100 + index as u32 * 50;
            system.sql(&events_of(circle, from..from + 50));
        }
        for person in &people {
            system.forget_limits_of(person).await;
        }
        match step / between % 2 {
            _ if step == 0 || step % between != 0 => {}
            1 => {
                system.origins[0].kill();
                system.replace_origin(0);
            }
            _ => {
                system.redis.kill();
                system.redis.launch();
            }
        }
        // Many listeners share this machine with those whom they listen to.
        tokio::time::sleep(Duration::from_millis(30 + 2 * listeners as u64)).await;
    }
    let expected: Vec<String> = {
        let rows = circles.iter().flat_map(|circle| ids_of(&system, circle));
        let mut rows: Vec<(Vec<u64>, String)> = rows.map(|id| (number(&id), id)).collect();
        rows.sort();
        rows.into_iter().map(|(_, id)| id).collect()
    };
    assert_eq!(expected.len(), (steps * 100) as usize);
    // One more, since a client may have heard the last before it knows that.
    system.sql(&events_of(&circles[0], events..events + 1));
    let end = ids_of(&system, &circles[0]).pop().unwrap();
    last.set(end.clone()).unwrap();
    let expected = [expected, vec![end]].concat();
    let deadline = Duration::from_secs(60);
    for (index, client) in clients.into_iter().enumerate() {
        let record = tokio::time::timeout(deadline, client).await.unwrap().unwrap();
        assert!(!record.was_told, "{index}: history had not ended");
        let from = expected.iter().position(|id| Some(id) == record.ids.first()).unwrap();
        assert!(from < 4_000, "{index} came too late to judge: {from}");
        assert_eq!(record.ids.len(), expected.len() - from, "{index}");
        assert!(record.ids == expected[from..], "{index}");
    }
}
