//! Subscribers of the circle's events, through an edge and at a gateway, whose connections end in every way.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use optimist_tests::System;
use optimist_tests::live::Transport;
use optimist_tests::wandering::{MANNERS, Manner, Record, Wanderer, Way};
use tokio::task::JoinSet;

use crate::world::World;

const WAYS: [Way; 3] = [Way::Edge, Way::Gateway(Transport::Socket), Way::Gateway(Transport::Events)];
/// How often a person's limits are reset: more often than they would refuse a connection.
const FORGETS: Duration = Duration::from_millis(700);
/// How long the last events may take, once the system rests.
const PATIENCE: Duration = Duration::from_secs(30);

/// They connect, listen and lose their connections until the record is stopped.
pub fn start(world: &Arc<World>, tasks: &mut JoinSet<()>) {
    for (index, manner) in MANNERS.into_iter().enumerate() {
        let world = world.clone();
        tasks.spawn(async move {
            let person = &world.crowd.people()[3 + index % 2];
            let wanderer =
                Wanderer::new(person.clone(), WAYS[index % WAYS.len()], manner, "message.posted").await;
            let mut wanderer = wanderer.in_circle(world.circle());
            let forgets = async {
                loop {
                    world.unlimited.forget(person).await;
                    tokio::time::sleep(FORGETS).await;
                }
            };
            tokio::select! {
                () = wanderer.wander(|_| world.record.is_over()) => {}
                () = forgets => {}
            }
            world.record.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(wanderer);
        });
    }
}

/// The ids of the circle's messages, in order. Postgres's timeline is the first: nothing is promoted here.
pub fn posted(system: &System, world: &World) -> Vec<String> {
    let rows = system.sql(&format!(
        "select '1.' || xid::text || '-' || seq from outbox
         where kind = 'message.posted' and topics @> array['{}']::uuid[] order by xid, seq",
        world.circle()
    ));
    rows.lines().map(str::to_owned).collect()
}

/// Lets them hear what they have not heard yet, and returns what each has received.
pub async fn finish(world: &World, posted: &[String]) -> Vec<(String, Record)> {
    let wanderers =
        std::mem::take(&mut *world.record.subscribers.lock().unwrap_or_else(PoisonError::into_inner));
    let mut received = Vec::new();
    for mut wanderer in wanderers {
        let name = wanderer.name();
        wanderer.manner = Manner::Clean;
        let deadline = Instant::now() + PATIENCE;
        let is_over = |record: &Record| record.ids.last() == posted.last() || Instant::now() > deadline;
        let person = &world.crowd.people()[3];
        world.unlimited.forget(person).await;
        wanderer.wander(is_over).await;
        received.push((name, wanderer.record));
    }
    received
}
