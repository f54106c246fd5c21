//! A transaction that stays open: while it runs, the horizon of every snapshot is its id, so that copies of what is written
//! meanwhile are not kept. Beside the same load without it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use optimist_tests::Kind;
use serde_json::json;

use crate::Settings;
use crate::region::{Member, Region};
use crate::report::{Figure, Outcome, Side, Target};

/// People who each read and change their own profile.
const PEOPLE: usize = 60;
/// Of so many reads by a person one follows a change.
const READS: u32 = 20;
const SECONDS: u64 = 60;

pub async fn run(_: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Embedded);
    let people = region.people(PEOPLE);
    let without = share_of_hits(&edge.url, &people).await;
    let holder = {
        let (client, connection) = tokio_postgres::connect(&region.database_url(), tokio_postgres::NoTls)
            .await
            .expect("postgres answers");
        tokio::spawn(connection);
        client.batch_execute("begin; select pg_current_xact_id()").await.expect("a transaction");
        client
    };
    let with = share_of_hits(&edge.url, &people).await;
    drop(holder);
    let figure = Figure::percent(
        "hits while a transaction stays open for a minute",
        Side::new("with it", "% of reads", [with * 100.0]),
        Side::new("without", "% of reads", [without * 100.0]),
        Target::AtLeast(90.0),
    );
    Outcome { figures: vec![figure], plots: Vec::new() }
}

/// The share of reads that Redis answers.
async fn share_of_hits(url: &str, people: &[Member]) -> f64 {
    let each = people.iter().map(|member| {
        let client = member.client(url);
        async move {
            let (began, mut reads, mut hits) = (Instant::now(), 0, 0);
            while began.elapsed() < Duration::from_secs(SECONDS) {
                client.patch("/v1/me", json!({"bio": format!("{reads}")})).await.expect(200);
                for _ in 0..READS {
                    reads += 1;
                    hits += u32::from(client.get("/v1/me").await.expect(200).is_hit());
                    tokio::time::sleep(Duration::from_millis(150)).await;
                }
            }
            (reads, hits)
        }
    });
    let all = futures_util::future::join_all(each).await;
    let (reads, hits) = all.into_iter().fold((0, 0), |sum, (reads, hits)| (sum.0 + reads, sum.1 + hits));
    f64::from(hits) / f64::from(reads)
}
