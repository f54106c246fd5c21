//! Reactions while origins, Redis and Postgres die in turn: nothing acknowledged is lost, nothing counts twice, and
//! Redis agrees with Postgres.

use std::time::{Duration, Instant};

use optimist_tests::{Crowd, Kind, Options, System, scale};

/// The longest time without any acknowledgement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `due` reactions are acknowledged; fails only if none is acknowledged within [`PATIENCE`].
async fn wait_until_done(crowd: &Crowd, due: u64) {
    let (mut done, mut since) = (crowd.done(), Instant::now());
    while done < due {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if crowd.done() > done {
            (done, since) = (crowd.done(), Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "stuck at {done}, on the way to {due}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_redis_and_postgres_killed_in_turn_lose_and_double_nothing() {
    let (reactions, kills) = (scale("OPTIMIST_REACTIONS", 5_000), scale("OPTIMIST_KILLS", 8));
    let options = Options {
        origins: 2,
        own_postgres: true,
        redis_deadline_ms: 1_000,
        appendfsync: "always",
        ..Options::default()
    };
    let mut system = System::with(options).await;
    let crowd = Crowd::new(&system, 32, 8, 125).await;
    let to_other =
        optimist_tests::proxy::Proxy::start(optimist_tests::system::address(&system.origins[1].api)).await;
    let other_edge = system.edge_before(Kind::Embedded, &format!("http://127.0.0.1:{}", to_other.port));
    let edges = [system.edge.url.clone(), other_edge.url.clone()];
    let crowd_at_work = {
        let crowd = crowd.clone();
        tokio::spawn(async move { crowd.react(&edges, reactions, false).await })
    };
    let began = Instant::now();
    for kill in 0..kills {
        // Spread evenly over the work, each after some more of it is done.
        wait_until_done(&crowd, reactions * (kill + 1) / (kills + 2)).await;
        println!("kill {} after {} reactions, {} s", kill + 1, crowd.done(), began.elapsed().as_secs());
        match kill % 4 {
            0 => {
                system.origins[0].kill();
                system.replace_origin(0);
            }
            1 => {
                system.redis.kill();
                tokio::time::sleep(Duration::from_millis(300)).await;
                system.redis.launch();
            }
            2 => {
                system.origins[1].kill();
                system.replace_origin(1);
                // The system's own edge stays with the first origin.
                system.to_origin.send_to(optimist_tests::system::address(&system.origins[0].api));
                to_other.send_to(optimist_tests::system::address(&system.origins[1].api));
            }
            _ => {
                let postgres = system.own_postgres.as_mut().unwrap();
                postgres.kill();
                tokio::time::sleep(Duration::from_millis(500)).await;
                postgres.launch();
            }
        }
    }
    let oracle = crowd_at_work.await.unwrap();
    println!("{} reactions in {} s", crowd.done(), began.elapsed().as_secs());
    crowd.wait_for_flush(&system).await;
    let (stored, expected) = (Crowd::stored(&system), oracle.on());
    let missing: Vec<_> =
        expected.difference(&stored).take(5).map(|place| (place, oracle.acknowledged[place])).collect();
    let surplus: Vec<_> =
        stored.difference(&expected).take(5).map(|place| (place, oracle.acknowledged.get(place))).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:#?}, surplus {surplus:#?}");
    crowd.check_counts(&system, &expected).await;
    assert_eq!(system.sql("select count(*) from writes_set_aside"), "0");
    println!("counted: {} reactions under {kills} kills, none lost, none counted twice", crowd.done());
}

/// With an append-only file that is synced each second, and with `FLUSHALL`, Redis may lose reactions that were
/// promised as `redis` and are not flushed yet; nothing else may be lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loses_data_loses_unflushed_promises_alone() {
    let reactions = scale("OPTIMIST_REACTIONS", 5_000);
    let options = Options { own_postgres: true, redis_deadline_ms: 1_000, ..Options::default() };
    let mut system = System::with(options).await;
    let crowd = Crowd::new(&system, 16, 4, 100).await;
    let edges = [system.edge.url.clone()];
    let at_work = {
        let crowd = crowd.clone();
        tokio::spawn(async move { crowd.react(&edges, reactions, true).await })
    };
    let mut faults = Vec::new();
    for fault in 0..3 {
        wait_until_done(&crowd, reactions * (fault + 1) / 5).await;
        let flushed = Crowd::stored(&system);
        if fault == 1 {
            system.redis.kill();
            system.redis.launch();
        } else {
            let mut redis = system.redis.connect().await;
            let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
        }
        faults.push((flushed, Instant::now()));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let oracle = at_work.await.unwrap();
    crowd.wait_for_flush(&system).await;
    let stored = Crowd::stored(&system);
    for (place, acknowledged) in &oracle.acknowledged {
        // A fault may lose what was not flushed by then. One more second covers requests in flight.
        let next = faults.iter().find(|(_, at)| acknowledged.at < *at + Duration::from_secs(1));
        let in_doubt = next.is_some_and(|(flushed, _)| !flushed.contains(place));
        if !in_doubt || acknowledged.in_postgres {
            assert!(stored.contains(place), "{place:?} {acknowledged:?} is lost");
        }
    }
    assert!(stored.is_subset(&oracle.on()), "nothing that nobody did");
    crowd.check_counts(&system, &stored).await;
}
