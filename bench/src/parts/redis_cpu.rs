//! The cost of a warm read to Redis, beside one GET of the same value: the server's processor time as Redis reports it,
//! minus the cost of the region's heartbeat.
//!
//! The reads come through the embedded host, 32 at a time. So do the GETs, from a component that does nothing else, so
//! that Redis handles both under the same conditions: between other work, or idle. Back-to-back GETs, over as many
//! connections, are measured as well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_shared::ids::parse_id;
use optimist_shared::keys::Key;
use optimist_tests::Kind;
use optimist_tests::processes::{Launch, Process, program};
use redis::aio::MultiplexedConnection;

use crate::Settings;
use crate::closed_loop::{CONNECTIONS, Subject};
use crate::http1::{Request, authority};
use crate::parts::warm::MEMBERS;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let idle_connections = clients(&region).await;
    let edge = region.edge(Kind::Embedded);
    let circle = region.circle(&edge.url, MEMBERS).await;
    let reads = circle.reads("warm read, embedded host", &edge.url, region.all_workers(&edge));
    let key = Key::circle_messages(parse_id(&circle.id).expect("an id")).name();

    let idle = idle_share(&region).await;
    let (host, url) = get_component(&region, &key);
    let one_get = Subject {
        name: "one GET, embedded host".to_owned(),
        requests: vec![Request::new("GET", authority(&url), "/", &[], b"")],
        url,
        workers: region.workers("the host", &host),
        is_right: |answer| answer.status == 200,
    };
    let (mut warm, mut alike, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.turns {
        let meter = Meter::start(&region).await;
        let load = tokio::spawn({
            let (reads, seconds) = (reads.clone(), settings.seconds);
            async move { reads.run(seconds).await }
        });
        tokio::time::sleep(Duration::from_millis(settings.seconds * 500)).await;
        let connections = clients(&region).await.saturating_sub(idle_connections).clamp(1, CONNECTIONS);
        let run = load.await.expect("the load");
        warm.push(meter.stop(&region, idle).await / run.requests());

        let meter = Meter::start(&region).await;
        let run = one_get.run(settings.seconds).await;
        alike.push(meter.stop(&region, idle).await / run.requests());

        let meter = Meter::start(&region).await;
        let gets = get_for(&region, &key, connections, settings.seconds).await;
        bare.push(meter.stop(&region, idle).await / gets as f64);
        println!(
            "  Redis: {:.1} µs a warm read, {:.1} µs a GET, {:.1} µs one behind the other over {connections} connections",
            warm[warm.len() - 1] * 1e6,
            alike[alike.len() - 1] * 1e6,
            bare[bare.len() - 1] * 1e6
        );
    }
    let side = |name, seconds: Vec<f64>| Side::new(name, "µs", seconds.into_iter().map(|each| each * 1e6));
    let alike = side("Redis, one GET of the same value, asked alike", alike);
    let bare = side("Redis, one GET of many, one behind the other", bare);
    let warm = side("Redis, a warm read", warm);
    let what = "warm read: processor time of Redis";
    let mut figure = Figure::times(what, warm, alike, Target::AtMost(4.0));
    figure.sides.push(bare);
    Outcome { figures: vec![figure], plots: Vec::new() }
}

/// Starts the component that makes one GET, on the host that runs the edge; returns it with its URL.
fn get_component(region: &Region, key: &str) -> (Process, String) {
    let component =
        program("OPTIMIST_BENCH_GET", "target/bench-get/wasm32-wasip2/release/optimist_bench_get.wasm");
    let (redis, key) = (format!("redis_url={}", region.redis.url()), format!("key={key}"));
    let component = component.display().to_string();
    let arguments =
        ["--component", &component, "--listen", "127.0.0.1:0", "--variable", &redis, "--variable", &key];
    let mut host = Process::start(&Launch {
        program: &program("OPTIMIST_HOST_BIN", "target/release/optimist-edge-host"),
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        log: region.folder.path().join("get.log"),
        user: None,
    });
    let url = host.wait_for_line("listening").replace("listening ", "");
    (host, url)
}

/// Measures the processor time that Redis uses from its start on.
struct Meter {
    used: f64,
    since: Instant,
}

impl Meter {
    async fn start(region: &Region) -> Meter {
        Meter { used: used(&mut region.redis.connect().await).await, since: Instant::now() }
    }

    /// Seconds used, minus `idle` for each second elapsed.
    async fn stop(self, region: &Region, idle: f64) -> f64 {
        let used = used(&mut region.redis.connect().await).await - self.used;
        used - idle * self.since.elapsed().as_secs_f64()
    }
}

/// The share of a second that Redis works while nobody asks the edge.
async fn idle_share(region: &Region) -> f64 {
    let meter = Meter::start(region).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let elapsed = meter.since.elapsed().as_secs_f64();
    meter.stop(region, 0.0).await / elapsed
}

async fn used(connection: &mut MultiplexedConnection) -> f64 {
    let info = info(connection, "cpu").await;
    let of = |name: &str| field(&info, name).parse::<f64>().expect("seconds");
    of("used_cpu_user") + of("used_cpu_sys")
}

async fn clients(region: &Region) -> usize {
    let info = info(&mut region.redis.connect().await, "clients").await;
    field(&info, "connected_clients").parse().expect("a number")
}

async fn info(connection: &mut MultiplexedConnection, section: &str) -> String {
    redis::cmd("INFO").arg(section).query_async(connection).await.expect("redis answers")
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("Redis does not tell {name}")).trim()
}

/// GETs a key with the same concurrency as the reads, over `connections`; returns the number of answers.
async fn get_for(region: &Region, key: &str, connections: usize, seconds: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(region.redis.connect().await);
    }
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let (mut connection, key) = (open[index % connections].clone(), key.to_owned());
            tokio::spawn(async move {
                let mut answered = 0;
                while Instant::now() < until {
                    let value: Vec<u8> = redis::cmd("GET")
                        .arg(&key)
                        .query_async(&mut connection)
                        .await
                        .expect("redis answers");
                    assert!(!value.is_empty(), "there is no value to get");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await.expect("a task");
    }
    answered
}
