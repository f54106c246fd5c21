//! People's own rows can be spread over shards by person: keys have the shape for it (`tests/growth` holds the statements to theirs), and
//! a commit that a shard may not have made is not acknowledged.

use optimist_shared::ids::parse_id;
use optimist_shared::keys::Key;
use optimist_tests::stores::SHARED;
use optimist_tests::system::environment;
use optimist_tests::{Options, Origin, System, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_peoples_own_tables_lead_with_the_person() {
    let system = System::start().await;
    let keys = system.sql(
        "select s.name, i.indexrelid::regclass from sharded s
         join pg_index i on i.indrelid = s.name::regclass and i.indisunique
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
         where a.attname <> 'user_id'",
    );
    assert_eq!(keys, "", "unique, and not led by the person");
    let references = system.sql(
        "select conrelid::regclass, confrelid::regclass, conname from pg_constraint
         where contype = 'f' and (conrelid in (select name::regclass from sharded) or confrelid in (select name::regclass from sharded))
           and not (conrelid in (select name::regclass from sharded) and confrelid in (select name::regclass from sharded)
               and (select attname from pg_attribute where attrelid = conrelid and attnum = conkey[1]) = 'user_id')",
    );
    assert_eq!(references, "", "foreign keys that leave a person's own rows");
    assert_eq!(system.sql("select count(*) from sharded"), "17");
}

#[test]
fn tables_are_spread_over_citus_only() {
    let (owner, serve) = SHARED.database();
    let settings = environment(&owner, &serve, "redis://127.0.0.1:1", 250);
    let (succeeded, output) = Origin::command(&settings, &["migrate", "--citus"]);
    assert!(!succeeded && output.contains("has no Citus"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_a_warning_is_not_acknowledged() {
    let system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let ada = system.register("Ada").await;
    // As Citus does when a shard does not answer its part of a commit: success, and a warning before it.
    system.sql(
        "create function warn() returns trigger language plpgsql as $$
         begin raise warning 'failed to commit transaction on a shard'; return null; end $$;
         create constraint trigger warn after insert on moods deferrable initially deferred for each row execute function warn()",
    );
    let key = [("idempotency-key", "mood")];
    let body = json!({"score": 3}).to_string().into_bytes();
    let log = async || ada.send(reqwest::Method::POST, "/v1/mood", &key, Some(body.clone())).await;
    let answer = log().await.expect(503);
    assert!(answer.text("/detail").contains("unknown"), "{answer:#?}");
    // The client looks, and tries again with its key: it was committed, once.
    system.sql("drop trigger warn on moods");
    log().await.expect(201);
    assert_eq!(system.sql("select count(*) from moods"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_elsewhere_does_not_concern_a_commit() {
    let system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let (ada, bob) = (system.register("Ada").await, system.register("Bob").await);
    // Ada's commit takes a second, and Bob's gets its warning meanwhile, of the same origin and on another connection.
    system.sql(
        "create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return null; end $$;
         create constraint trigger wait after insert on journal_entries deferrable initially deferred for each row execute function wait();
         create function warn() returns trigger language plpgsql as $$
         begin raise warning 'failed to commit transaction on a shard'; return null; end $$;
         create constraint trigger warn after insert on moods deferrable initially deferred for each row execute function warn()",
    );
    let waits = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query = 'commit'";
    let writes = async || ada.post("/v1/journal/entries", json!({"body": "Dear all."})).await;
    let warned = async || {
        until("Ada's commit", async || system.sql(waits) == "1").await;
        let answer = bob.post("/v1/mood", json!({"score": 3})).await;
        (answer, system.sql(waits))
    };
    let (written, (warned, still)) = tokio::join!(writes(), warned());
    assert_eq!(still, "1", "Ada's commit ended before the warning");
    warned.expect(503);
    written.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_peoples_own_rows_are_kept_on_one_server_only() {
    for is_spread in [false, true] {
        let system = System::start().await;
        if is_spread {
            // As `migrate --citus` leaves it.
            system.sql("create or replace function shard_of(person uuid) returns bigint language sql stable return 1");
        }
        let ada = system.register("Ada").await;
        ada.post("/v1/journal/entries", json!({"body": "Dear all.", "tags": ["sun"]})).await.expect(201);
        for _ in 0..2 {
            assert_eq!(ada.get("/v1/journal/streak").await.expect(200).body["longest"], 1);
            assert_eq!(ada.get("/v1/journal/tags/recent").await.expect(200).body["items"], json!(["sun"]));
        }
        let mut redis = system.redis.connect().await;
        let person = parse_id(&ada.user).unwrap();
        for key in [Key::streak(person), Key::recent_tags(person)] {
            let kept: bool = redis::cmd("EXISTS").arg(key.name()).query_async(&mut redis).await.unwrap();
            assert_eq!(kept, !is_spread, "{}", key.name());
        }
    }
}
