//! Clients whose connections end in every way, while origins and Redis die: each receives every event once, in order.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use optimist_tests::wandering::{MANNERS, Wanderer, Way, judge};
use optimist_tests::{Options, System};

use super::{BOTH, events_of, ids_of, number};

/// Connections of one person.
const EACH: usize = 4;

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
    let last = Arc::new(OnceLock::<String>::new());
    let mut clients = Vec::new();
    for (index, manner) in MANNERS.into_iter().cycle().take(listeners).enumerate() {
        // Most connect to gateways, of which one dies with its origin; some go through the edge.
        let way = match index / MANNERS.len() % 3 {
            number @ 0..2 => Way::Gateway(BOTH[number]),
            _ => Way::Edge,
        };
        let person = people[index % people.len()].clone();
        let last = last.clone();
        clients.push(tokio::spawn(async move {
            let mut wanderer = Wanderer::new(person, way, manner, "message.deleted").await;
            let ended = OnceLock::new();
            let is_over = |record: &optimist_tests::wandering::Record| {
                let Some(last) = last.get() else { return false };
                let waits = ended.get_or_init(Instant::now).elapsed() > Duration::from_secs(240);
                waits || record.ids.last() == Some(last)
            };
            wanderer.wander(is_over).await;
            wanderer
        }));
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
    let deadline = Duration::from_secs(120);
    for (index, client) in clients.into_iter().enumerate() {
        let wanderer = tokio::time::timeout(deadline, client).await.unwrap().unwrap();
        let (name, record) = (wanderer.name(), &wanderer.record);
        assert!(record.breaks.is_empty(), "{index}, {name}: history had not ended");
        let from = expected.iter().position(|id| Some(id) == record.ids.first()).unwrap();
        assert!(from < 4_000, "{index}, {name} came too late to judge: {from}");
        assert_eq!(judge(record, &expected), None, "{index}, {name}, refused {:?}", record.refused);
    }
}
