//! TLS to the stores, by certificates of an authority that the origin is told of.

use std::time::{Duration, Instant};

use optimist_tests::authority::Authority;
use optimist_tests::{Options, Origin, System};

/// The settings of an origin that reaches both stores by TLS, with this authority's certificate if one is given.
fn settings(system: &System, redis_port: u16, authority: Option<&Authority>) -> Vec<(String, String)> {
    let mut settings = system.environment();
    for (name, value) in &mut settings {
        match name.as_str() {
            "OPTIMIST_DATABASE_URL" | "OPTIMIST_MIGRATE_DATABASE_URL" => {
                *value = format!("{}?sslmode=require", value.replace("127.0.0.1", "localhost"));
            }
            "OPTIMIST_REDIS_URL" => *value = format!("rediss://localhost:{redis_port}"),
            _ => {}
        }
    }
    if let Some(authority) = authority {
        for name in ["OPTIMIST_DATABASE_CA_FILE", "OPTIMIST_REDIS_CA_FILE"] {
            settings.push((name.to_owned(), authority.file().display().to_string()));
        }
    }
    settings
}

/// Which stores an origin says that it reaches.
async fn reached(origin: &Origin) -> (String, String) {
    let response = reqwest::get(format!("{}/readyz", origin.internal)).await.unwrap();
    let state: serde_json::Value = response.json().await.unwrap();
    let text = |store: &str| state[store].as_str().unwrap_or_default().to_owned();
    (text("postgres"), text("redis"))
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_with_certificates_of_a_private_authority_are_reached() {
    let system = System::with(Options { own_postgres: true, ..Options::default() }).await;
    let (authority, other) = (Authority::new(), Authority::new());
    let certificate = authority.certify();
    let postgres = system.own_postgres.as_ref().unwrap();
    postgres.offer_tls(&certificate);
    let redis_port = system.redis.offer_tls(&certificate).await;
    let folder = tempfile::tempdir().unwrap();

    let known = settings(&system, redis_port, Some(&authority));
    let (migrated, output) = Origin::command(&known, &["migrate"]);
    assert!(migrated, "{output}");
    let (checked, output) = Origin::command(&known, &["check-statements"]);
    assert!(checked, "{output}");
    let origin = Origin::start(&known, folder.path());
    assert_eq!(reached(&origin).await, ("up".to_owned(), "up".to_owned()));
    let encrypted = "select count(*) > 0 from pg_stat_ssl join pg_stat_activity using (pid)
                     where ssl and application_name = 'optimist-origin'";
    assert_eq!(postgres.sql("postgres", encrypted), "t");
    // Vouching has a connection of its own.
    let deadline = optimist_tests::patience();
    while system.redis.clients_at(redis_port).await < 2 {
        assert!(Instant::now() < deadline, "too few connections by TLS");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A public list does not know the authority, nor does another one vouch for it.
    for unknown in [None, Some(&other)] {
        let unknown = settings(&system, redis_port, unknown);
        assert!(!Origin::command(&unknown, &["check-statements"]).0);
        assert!(
            !Origin::command(&unknown, &["admin", "grant", "nobody@example.org"]).1.contains("no account")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_the_loopback_an_origin_does_not_start_without_tls() {
    let system = System::start().await;
    let with = |name: &str, value: &str| {
        let mut settings = system.environment();
        settings.retain(|(known, _)| known != name);
        settings.push((name.to_owned(), value.to_owned()));
        Origin::command(&settings, &["check-statements"])
    };
    for (name, value) in [
        ("OPTIMIST_DATABASE_URL", "postgres://serve@192.0.2.1/optimist?sslmode=disable"),
        ("OPTIMIST_MIGRATE_DATABASE_URL", "postgres://owner@db.internal/optimist?sslmode=disable"),
        ("OPTIMIST_REPLICA_URL", "postgres://serve@127.0.0.1,192.0.2.1/optimist?sslmode=disable"),
        ("OPTIMIST_REDIS_URL", "redis://redis.internal"),
        ("OPTIMIST_REDIS_URL", "rediss://redis.internal/#insecure"),
        ("OPTIMIST_REDIS_CA_FILE", "/nonexistent.pem"),
        ("OPTIMIST_DATABASE_CA_FILE", "/dev/null"),
    ] {
        let (succeeded, output) = with(name, value);
        assert!(!succeeded && output.contains(name), "{value}: {output}");
    }
}
