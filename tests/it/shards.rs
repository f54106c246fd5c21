//! People's own rows can be spread over shards by person: keys have the shape for it (`tests/growth` holds the statements to theirs), and
//! a commit that a shard may not have made is not acknowledged.

use optimist_tests::stores::SHARED;
use optimist_tests::system::environment;
use optimist_tests::{Options, Origin, System};
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
    assert_eq!(system.sql("select count(*) from sharded"), "14");
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
