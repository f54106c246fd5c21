//! What the relay's scripts promise to the gateway: where a history is whole, and that what is settled stays so.

use std::collections::BTreeMap;

use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::scripts::append::{Batch, Event};
use optimist_shared::scripts::{Call, settle};
use optimist_tests::stores::Redis;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

async fn run(redis: &mut MultiplexedConnection, call: &Call<'_>) -> Value {
    let mut command = Cmd::new();
    call.words(true, |word| {
        command.arg(word);
    });
    command.query_async(redis).await.unwrap()
}

/// Numbers that look random, and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_whole_from_where_it_says() {
    let server = Redis::start("everysec");
    let mut redis = server.connect().await;
    let partition = Partition::of(uuid::Uuid::from_u128(7));
    let (stream, cursor) = (Key::Events.of_partition(partition), Key::Cursor.of_partition(partition));
    let mut numbers = Numbers(29);
    let mut appended: Vec<u64> = Vec::new();
    let (mut at, mut xid, mut trims) = (None::<String>, 0u64, 0);
    let fields = [("kind", "message.posted".to_owned())];
    for round in 0..400 {
        let new: Vec<String> = (0..numbers.below(60))
            .map(|_| 1 + numbers.below(3))
            .map(|gap| {
                xid += gap;
                appended.push(xid);
                format!("{xid}-1")
            })
            .collect();
        xid += 1;
        let to = format!("{xid}-0");
        let events: Vec<Event> = new.iter().map(|at| Event { at, fields: &fields }).collect();
        // Each third round something is old enough to go, at times all of it.
        let trimmed = (round % 3 == 0).then(|| format!("{}-0", xid.saturating_sub(numbers.below(900))));
        let batch = Batch {
            partition,
            from: at.as_deref(),
            to: &to,
            kept: 500,
            trimmed: trimmed.as_deref(),
            events: &events,
        };
        run(&mut redis, &batch.call()).await;
        at = Some(to);
        let entries: Vec<(String, BTreeMap<String, String>)> =
            redis::cmd("XRANGE").arg(&stream).arg("-").arg("+").query_async(&mut redis).await.unwrap();
        let known: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(&cursor).query_async(&mut redis).await.unwrap();
        let number = |id: &str| id.split('-').next().unwrap().parse::<u64>().unwrap();
        let since = number(&known["since"]);
        let held: Vec<u64> = entries.iter().map(|(id, _)| number(id)).filter(|id| *id > since).collect();
        let whole: Vec<u64> = appended.iter().copied().filter(|id| *id > since).collect();
        assert_eq!(held, whole, "after round {round}, since {since}");
        trims += u64::from(entries.len() < appended.len());
        assert!(entries.len() <= 700, "{} entries are kept", entries.len());
    }
    assert!(trims > 100, "it was trimmed {trims} times only");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_never_goes_back() {
    let server = Redis::start("everysec");
    let mut redis = server.connect().await;
    let mut numbers = Numbers(31);
    let mut most = (0, 0, 0);
    let mut refused = 0;
    for _ in 0..2_000 {
        // A timeline begins anew now and then: its transactions may be lower.
        let said = (1 + numbers.below(3), numbers.below(50), numbers.below(4));
        run(&mut redis, &settle::call(said.0, said.1, said.2)).await;
        refused += u64::from(said <= most);
        most = most.max(said);
        let key = Key::Settled.of_partition(Partition::COMMON);
        let known: String = redis::cmd("GET").arg(key).query_async(&mut redis).await.unwrap();
        assert_eq!(known, format!("{}.{}-{}", most.0, most.1, most.2), "after {said:?}");
    }
    assert!(refused > 1_000);
}
