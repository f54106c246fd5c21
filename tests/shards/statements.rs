//! Citus takes each statement of the origin, and one shard has all that a request's statement needs.

use optimist_tests::sql::{Full, MODES, Statement};
use optimist_tests::stores::SHARED;

/// Is sent for each shard (see `Tx::together`), and has the people of several here.
const FOR_EACH: &str = "notifications::lock";

#[tokio::test(flavor = "multi_thread")]
async fn citus_takes_each_statement_and_a_request_asks_one_shard() {
    crate::need_citus();
    let statements = Statement::all();
    let full = Full::empty(&SHARED, &statements).await;
    let mut faults = Vec::new();
    let mut on_shards = 0;
    for statement in &statements {
        // Citus has no generic plans.
        match full.shards(statement, MODES[0]).await {
            Err(refused) if statement.name != FOR_EACH => faults.push(refused),
            Err(_) => {}
            Ok(shards) => {
                on_shards += usize::from(shards.as_ref().is_none_or(|shards| !shards.is_empty()));
                let is_one = shards.as_ref().is_some_and(|shards| shards.iter().all(|count| *count == 1));
                if !statement.is_background() && !is_one {
                    faults.push(format!("{}: a request waits for {shards:?} shards", statement.name));
                }
            }
        }
    }
    assert!(on_shards > 60, "{on_shards} plans are about what is on shards");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
