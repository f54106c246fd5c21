//! A reaction in the trip that admits it, beside the same reaction in two trips: whatever Redis holds, the edge decides alike and
//! leaves Redis alike. The edge's pipeline runs in this process, on a real Redis.

mod direct;
mod cases;

use std::cell::RefCell;

use optimist_edge_core::host::Response;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::Limit;
use optimist_shared::reactions::Kind;
use optimist_shared::scripts::admit::Admission;
use optimist_shared::scripts::admit_react;
use optimist_shared::scripts::limit::Charge;
use optimist_shared::scripts::react::Reaction;
use optimist_shared::session::Token;
use optimist_tests::stores::Redis;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use redis::aio::MultiplexedConnection;

use cases::{Answer, EPOCH, cases, usual};
use direct::{edge, held, load_scripts, run};

/// The edge's clock.
const NOW: u64 = 1_800_000_000_000;
const USER: Uuid = Uuid::from_u128(1);
const SESSION: Uuid = Uuid::from_u128(2);
const CIRCLE: Uuid = Uuid::from_u128(3);
const MESSAGE: Uuid = Uuid::from_u128(4);
const TOKEN: Token = Token { user: USER, session: SESSION, secret: [7; 32] };

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// How many of the cases were answered in one trip, how many forwarded, and how many refused.
#[derive(Debug, Default)]
struct Seen {
    made: u32,
    forwarded: u32,
    refused: u32,
}

#[test]
fn a_reaction_in_one_trip_is_decided_as_in_two() {
    const CASES: u32 = 3_000;
    let (server, runtime) = (Redis::start("everysec"), runtime());
    let redis = runtime.block_on(server.connect());
    runtime.block_on(load_scripts(&redis));
    let mut seen = RefCell::new(Seen::default());
    let mut runner = TestRunner::new(Cases { cases: CASES, failure_persistence: None, ..Cases::default() });
    let outcome = runner.run(&cases(), |case| {
        let (one, two) = runtime.block_on(async {
            (case.play(&redis, &edge(false)).await, case.play(&redis, &edge(true)).await)
        });
        prop_assert_eq!(&one.shown, &two.shown, "one trip, and two");
        prop_assert!(one.trips <= two.trips, "{} trips", one.trips);
        let mut seen = seen.borrow_mut();
        match one.shown.answer {
            Answer::Edge(Response { status: 202, .. }) => {
                prop_assert_eq!((one.trips, two.trips), (1, 2));
                seen.made += 1;
            }
            Answer::Edge(_) => seen.refused += 1,
            Answer::Origin(_) => seen.forwarded += 1,
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let Seen { made, forwarded, refused } = *seen.get_mut();
    assert!(made > CASES / 5 && forwarded > CASES / 5 && refused > CASES / 100, "{seen:?}");
}

/// Errors of this kind that Redis has answered.
async fn crossed_slots(redis: &MultiplexedConnection) -> u32 {
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("errorstats").query_async(&mut redis.clone()).await.unwrap();
    let count = info.lines().find_map(|line| line.strip_prefix("errorstat_CROSSSLOT:count="));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn on_a_cluster_a_reaction_takes_two_trips() {
    let server = Redis::cluster("everysec").await;
    let redis = server.connect().await;
    let (told, untold) = (edge(true), edge(false));
    load_scripts(&redis).await;
    let expected = usual().play(&redis, &told).await.shown;
    assert!(matches!(expected.answer, Answer::Edge(Response { status: 202, .. })), "{expected:?}");
    for (edge, trips, crossed) in [(&told, 2, 0), (&untold, 3, 1), (&untold, 2, 1)] {
        let played = usual().play(&redis, edge).await;
        assert_eq!((played.trips, crossed_slots(&redis).await), (trips, crossed));
        assert_eq!(played.shown, expected, "charged and made once");
    }
}

/// The edge has given up on its trip, and the origin has charged and made the reaction. Then the person has taken it back.
#[tokio::test]
async fn a_trip_that_comes_after_the_origin_has_charged_changes_nothing() {
    let server = Redis::start("everysec");
    let mut redis = server.connect().await;
    usual().install(&mut redis).await;
    let charge = || Charge::new(vec![Limit::Reactions.row()], &USER.to_string(), "attempt".to_owned());
    let admission = Admission { token: TOKEN, charge: charge(), circle: Some(CIRCLE), wants_blocked: false };
    let kind = Kind::parse("hug").unwrap();
    let reaction = Reaction { user: USER, circle: CIRCLE, message: MESSAGE, kind, reacted: true };
    assert_eq!(run(&redis, &charge().call()).await[0], "charged");
    let before = held(&redis).await;
    let vouch = format!("{EPOCH:016x}");
    let late = run(&redis, &admit_react::call(&admission, &reaction, NOW)).await;
    assert_eq!(
        late[6..],
        ["found", "48", "60000", "doubted", "", vouch.as_str(), late[12].as_str()],
        "{late:?}"
    );
    // The limit notes that a retry has found the attempt; the session's expiry is set.
    let without_session = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| !line.starts_with("session:")).collect()
    };
    let expected = without_session(before).into_iter().map(|line| line.replace(" attempt ", " attempt! "));
    assert_eq!(without_session(held(&redis).await), expected.collect::<Vec<_>>());
}
