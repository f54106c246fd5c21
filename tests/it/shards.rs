//! People's own rows can be spread over shards by person: keys and statements have the shape for it, and a commit that a shard may not
//! have made is not acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use optimist_tests::sql::{Full, MODES, Statement, When};
use optimist_tests::stores::{Postgres, SHARED};
use optimist_tests::system::environment;
use optimist_tests::{Options, Origin, System};
use serde_json::json;

/// Statements that are about several people, and the reason. None is a request's.
const OF_SEVERAL: &[(&str, &str)] = &[
    ("sealing::keyless", "a flush has drafts of several people"),
    ("sealing::next", "everyone's keys are wrapped anew, a hundred at a time"),
    ("drafts::why", "a flush has drafts of several people"),
    ("drafts::clean", "it removes what is old, whoever has it"),
    ("drafts::clean_saved", "it removes what is old, whoever has it"),
    ("folding::lock", "reactions that are flushed together are to several people"),
    ("folding::unread", "reactions that are flushed together are to several people"),
    ("folding::remove", "reactions that are flushed together are to several people"),
    ("folding::settle", "reactions that are flushed together are to several people"),
    ("folding::drop", "reactions that are flushed together are to several people"),
    ("folding::count", "reactions that are flushed together are to several people"),
    ("outgoing::due", "it looks for what is late, whoever has it"),
    ("outgoing::clean", "it removes what is old, whoever has it"),
    ("notifications::forget_message", "members of a circle are told, and forget, together"),
    ("notifications::message", "members of a circle are told, and forget, together"),
    ("notifications::messages", "members of a circle are told, and forget, together"),
    ("notifications::evict", "members of a circle are told, and forget, together"),
    ("notifications::over", "it looks for those who have too many"),
    ("notifications::clean", "it removes what is old, whoever has it"),
    ("notifications::clean_actors", "it removes what is old, whoever has it"),
    ("notifications::audit_counts", "it goes through everyone"),
];

#[tokio::test(flavor = "multi_thread")]
async fn statements_stay_in_one_shard() {
    let statements = Statement::all();
    let postgres = Postgres::start();
    let full = Full::new(&postgres, &statements, 0.1).await;
    full.spread().await;
    let listed: BTreeMap<&str, &str> = OF_SEVERAL.iter().copied().collect();
    let (mut faults, mut found) = (Vec::new(), BTreeSet::new());
    for statement in &statements {
        let name = statement.name.as_str();
        let leaves = full.leaves(statement, MODES[0]).await;
        let shards: BTreeSet<&str> =
            leaves.values().flatten().filter_map(|leaf| Some(leaf.split_once("_shard_")?.1)).collect();
        if shards.len() < 2 {
            continue;
        }
        if statement.when() != When::Request && listed.contains_key(name) {
            found.insert(name);
        } else {
            faults.push(format!("{name}: {leaves:?}"));
        }
    }
    let superfluous = listed.keys().filter(|name| !found.contains(*name));
    faults.extend(superfluous.map(|name| format!("{name}: is listed, and stays in one shard")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

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
    assert_eq!(system.sql("select count(*) from sharded"), "11");
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
