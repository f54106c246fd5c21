//! After a write is acknowledged, or its effect seen, nobody reads what it replaced: on every fenced key, whatever is
//! slow and whichever process dies. With half of the protocol switched off, the same check finds violations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::keys::Key;
use optimist_tests::registers::{LAST, Registers, fenced_keys};
use optimist_tests::{Answer, Client, Edge, Kind, Load, Options, System, scale};
use tokio::task::JoinHandle;

/// Reads of one group of people before another takes its turn, because their data grows.
const ROUND: u64 = 40_000;
/// The number of these reads made while fills are slow and hits are rare.
const SLOWLY: u64 = 500;

/// Two origins on the same stores, each behind its own edge.
struct Pair {
    system: System,
    other_edge: Edge,
    registers: [Arc<Registers>; 2],
}

impl Pair {
    async fn start() -> Pair {
        let system = System::with(Options { origins: 2, ..Options::default() }).await;
        let other_edge = system.edge_before(Kind::Embedded, &system.origins[1].api);
        let registers = registers(&system, &other_edge).await;
        Pair { system, other_edge, registers }
    }

    /// Takes new people and new circles.
    async fn renew(&mut self) {
        self.registers = registers(&self.system, &self.other_edge).await;
    }

    /// Makes a step take `millis` longer each time.
    async fn slow(&self, step: &str, millis: u64) {
        for origin in &self.system.origins {
            origin.arm(step, "pause", millis, u64::MAX / 2).await;
        }
    }
}

async fn registers(system: &System, other_edge: &Edge) -> [Arc<Registers>; 2] {
    let registers = Registers::new(system).await;
    let other = registers.at(&other_edge.url);
    [Arc::new(registers), Arc::new(other)]
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_reads_see_nothing_stale() {
    let wanted = scale("OPTIMIST_READS", 10_000);
    let mut pair = Pair::start().await;
    let keys: Vec<Key> = fenced_keys().collect();
    let each = wanted.div_ceil(keys.len() as u64);
    let (mut reads, mut writes) = (0, 0);
    for (turn, key) in keys.into_iter().enumerate() {
        let mut left = each;
        while left > 0 {
            if turn > 0 || left < each {
                pair.renew().await;
            }
            let load = Load::start(key, &pair.registers).await;
            let round = left.min(ROUND);
            let slowly = SLOWLY.min(round / 2);
            for (millis, reads) in [(15, slowly), (0, round - slowly)] {
                pair.slow("fill.loaded", millis).await;
                load.run_reads(reads).await;
            }
            let violations = load.stop().await;
            assert!(violations.is_empty(), "{violations:#?}");
            assert!(load.written() >= 20, "{key:?}: hardly a write");
            left -= round;
            reads += load.answered();
            writes += load.written();
        }
        println!("{reads} reads so far, the last of {key:?}");
    }
    assert!(reads >= wanted, "{reads} of {wanted}");
    println!("counted: {reads} reads and {writes} writes of every fenced key, none of the reads stale");
}

/// One person who alone reads and writes the messages of a circle, so that the test knows which keys are warm.
struct Scene {
    system: System,
    ada: Client,
    circle: String,
    path: String,
}

impl Scene {
    /// With one message, and everything warm.
    async fn new() -> Scene {
        Scene::with(Options::default()).await
    }

    async fn with(options: Options) -> Scene {
        let system = System::with(options).await;
        let ada = system.register("Ada").await;
        let circle = ada.create_circle("private").await;
        let path = format!("/v1/circles/{circle}/messages");
        ada.say(&circle, "0").await;
        ada.until_hit(&path).await;
        Scene { system, ada, circle, path }
    }

    fn list_key(&self) -> String {
        Key::circle_messages(self.circle.parse().unwrap()).name()
    }

    /// Runs a command of Redis on the list's key.
    async fn list(&self, command: &str) -> i64 {
        let mut redis = self.system.redis.connect().await;
        redis::cmd(command).arg(self.list_key()).query_async(&mut redis).await.unwrap()
    }

    /// Changes all messages as an origin of another region does, which fences nothing here.
    fn write_elsewhere(&self, body: &str) {
        let (circle, key) = (&self.circle, self.list_key());
        self.system.sql(&format!(
            "begin;
             set local synchronous_commit = on;
             update messages set body = '{body}', version = version + 1 where circle_id = '{circle}';
             insert into outbox (region, request_id, keys, kind, payload, topics)
             values ('elsewhere', 'afar', array['{key}'], 'message.edited', '{{}}', array['{circle}']::uuid[]);
             commit"
        ));
    }

    async fn newest(&self) -> String {
        self.ada.get(&self.path).await.expect(200).text("/items/0/body")
    }

    /// Makes the origin read the list, and pause before it fills.
    async fn begin_fill(&self) -> JoinHandle<Answer> {
        self.list("DEL").await;
        let (ada, path) = (self.ada.clone(), self.path.clone());
        let begin = async || tokio::spawn(async move { ada.get(&path).await });
        self.system.origins[0].hold("fill.loaded", begin).await
    }

    /// Holds the relay, which would soon repair what it cannot prevent.
    async fn hold_relay(&self) {
        self.system.origins[0].hold("relay.read", async || ()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_a_write_is_seen_its_predecessor_is_not_although_it_is_not_released() {
    let scene = Scene::new().await;
    scene.hold_relay().await;
    let origin = &scene.system.origins[0];
    let (ada, circle) = (scene.ada.clone(), scene.circle.clone());
    let begin = async || tokio::spawn(async move { ada.say(&circle, "1").await });
    let posted = origin.hold("tx.committed", begin).await;
    // A page that bypasses the cache shows the committed write.
    let direct = scene.ada.get(&format!("{}?before={LAST}&limit=1", scene.path)).await.expect(200);
    assert_eq!(direct.text("/items/0/body"), "1");
    for _ in 0..3 {
        assert_eq!(scene.newest().await, "1");
    }
    origin.release().await;
    posted.await.unwrap();
    assert_eq!(scene.newest().await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_began_before_a_write_does_not_outlast_it() {
    let scene = Scene::new().await;
    scene.hold_relay().await;
    let fill = scene.begin_fill().await;
    scene.ada.say(&scene.circle, "1").await;
    scene.system.origins[0].release_step("fill.loaded").await;
    fill.await.unwrap().expect(200);
    for _ in 0..3 {
        assert_eq!(scene.newest().await, "1");
    }
    scene.system.origins[0].release().await;
}

/// A write in another region fences nothing here: the relay learns of it, and leaves a floor.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_another_region_is_seen_although_a_fill_began_before_it() {
    let scene = Scene::new().await;
    let system = &scene.system;
    let fill = scene.begin_fill().await;
    scene.write_elsewhere("From afar");
    let told = "select (cursor_xid, cursor_seq) >= (select xid, seq from outbox where request_id = 'afar')
        from regions where name = 'test'";
    let deadline = optimist_tests::patience();
    while system.sql(told) != "t" {
        assert!(Instant::now() < deadline, "the relay never saw the write");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    system.origins[0].release().await;
    fill.await.unwrap().expect(200);
    for _ in 0..3 {
        assert_eq!(scene.newest().await, "From afar");
    }
}

/// A replica may show a commit before the primary does, here while the primary waits for a standby that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_a_replica_shows_first_is_seen_although_a_fill_began_after_the_relay_told_of_it() {
    let options = Options { own_postgres: true, replica: true, ..Options::default() };
    let scene = Arc::new(Scene::with(options).await);
    let set = |setting: &str| {
        scene.system.sql(&format!("alter system {setting}"));
        scene.system.sql("select pg_reload_conf()");
    };
    set("set synchronous_commit = local");
    set("set synchronous_standby_names = 'nobody'");
    let writer = Arc::clone(&scene);
    let written = tokio::task::spawn_blocking(move || writer.write_elsewhere("From afar"));
    let deadline = optimist_tests::patience();
    while scene.list("EXISTS").await == 1 {
        assert!(Instant::now() < deadline, "the relay never told of the write");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(scene.newest().await, "0", "the primary shows the write already: this test is blind");
    set("reset synchronous_standby_names");
    written.await.unwrap();
    for _ in 0..3 {
        assert_eq!(scene.newest().await, "From afar");
    }
}

/// Copies that a write elsewhere made stale would otherwise be served for as long as the reader lags.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_reader_of_the_outbox_lags_nobody_trusts_copies() {
    let scene = Scene::new().await;
    // Keep the auditor from mending the copy first.
    scene.system.sql("update jobs set started_at = now() + interval '1 hour' where name = 'audit'");
    scene.hold_relay().await;
    scene.write_elsewhere("From afar");
    let reads = async |wanted: &str| {
        let deadline = optimist_tests::patience();
        while scene.newest().await != wanted {
            assert!(Instant::now() < deadline, "{wanted}: not within the allowed lag");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(scene.newest().await, "0", "nothing was stale: this test is blind");
    reads("From afar").await;
    assert!(!scene.ada.get(&scene.path).await.is_hit());
    // Writes go on meanwhile.
    scene.ada.say(&scene.circle, "1").await;
    reads("1").await;
    scene.system.origins[0].release().await;
    let deadline = optimist_tests::patience();
    while !scene.ada.get(&scene.path).await.expect(200).is_hit() {
        assert!(Instant::now() < deadline, "nobody vouches although the reader has caught up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Its id is the horizon of every snapshot while it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_keeps_nothing_from_being_cached() {
    let scene = Arc::new(Scene::new().await);
    let holder = Arc::clone(&scene);
    let held = "select 1 from pg_stat_activity where query like '%pg_sleep(6)%' and wait_event = 'PgSleep'";
    let open = tokio::task::spawn_blocking(move || {
        holder.system.sql("begin; select pg_current_xact_id(); select pg_sleep(6); commit");
    });
    let deadline = optimist_tests::patience();
    while scene.system.sql(held).is_empty() {
        assert!(Instant::now() < deadline, "the transaction never began");
    }
    scene.ada.say(&scene.circle, "1").await;
    while !scene.ada.get(&scene.path).await.expect(200).is_hit() {
        assert!(!scene.system.sql(held).is_empty(), "no hit until the transaction had ended");
    }
    assert_eq!(scene.newest().await, "1");
    open.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_killed_at_any_step_leaves_nothing_stale_and_loses_nothing() {
    const STEPS: [&str; 6] =
        ["tx.begun", "tx.statements", "tx.outbox", "tx.fenced", "tx.committed", "tx.released"];
    let mut pair = Pair::start().await;
    for key in fenced_keys() {
        let load = Load::start(key, &pair.registers).await;
        for step in STEPS {
            load.run(20).await;
            pair.system.origins[0].arm(step, "abort", 0, 1).await;
            let deadline = optimist_tests::patience();
            while pair.system.origins[0].is_running() {
                assert!(Instant::now() < deadline, "{key:?}: no write came to {step}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            load.run(20).await;
            pair.system.replace_origin(0);
        }
        load.run(100).await;
        let violations = load.stop().await;
        assert!(violations.is_empty(), "{violations:#?}");
        if key == Key::CircleMessages {
            // One message from the setup, and one written to begin with.
            let posted = pair.registers[0].messages_posted().await;
            assert_eq!(posted, load.written() + 2, "each once, however often it was sent");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_or_the_fill_check_the_load_finds_fault() {
    // The relay hears of a commit at once, and would drop the old copy before the writer answers.
    let of_fence = &[("tx.committed", 150), ("relay.read", 100)][..];
    for (mechanism, steps) in [("fence", of_fence), ("fill", &[("fill.loaded", 40)])] {
        let pair = Pair::start().await;
        for (step, millis) in steps {
            pair.slow(step, *millis).await;
        }
        for origin in &pair.system.origins {
            origin.disable(mechanism, true).await;
        }
        let load = Load::start(Key::CircleMessages, &pair.registers).await;
        let deadline = optimist_tests::patience();
        while load.violations().is_empty() {
            assert!(
                Instant::now() < deadline,
                "without its {mechanism} nothing was stale: this test is blind"
            );
            load.run(50).await;
        }
        load.stop().await;
    }
}
