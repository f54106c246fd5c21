//! Every key that is written to Redis is one of the tables', and lives as long as its row says.

use optimist_shared::keys::{KEYS, Life};
use optimist_shared::limits::LIMITS;
use optimist_tests::System;
use serde_json::json;

/// A key's row: its template's literal parts, and seconds that it may live at most, and must at least after a write.
struct Row {
    parts: Vec<String>,
    seconds: Option<std::ops::RangeInclusive<i64>>,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for key in KEYS {
        let parts = literal_parts(key.template);
        let most = key.kept_seconds().map(i64::from);
        // A minute for the test itself.
        let seconds = match key.life {
            Life::Seconds { .. } => most.map(|most| (most - 60).max(0)..=most),
            Life::Kept { .. } => None,
        };
        for companion in ["hidden:", "fence:", "lease:"] {
            let mut parts = parts.clone();
            parts[0] = format!("{companion}{}", parts[0]);
            rows.push(Row { parts, seconds: Some(0..=5) });
        }
        rows.push(Row { parts, seconds });
    }
    for limit in LIMITS {
        let longest = limit.windows.iter().map(|window| i64::from(window.seconds)).max().unwrap();
        let parts = vec![format!("{}:{{", limit.prefix), format!("}}{}", limit.suffix)];
        rows.push(Row { parts, seconds: Some(longest - 60..=longest) });
    }
    rows
}

/// What stands between the parameters.
fn literal_parts(template: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('<') {
        parts.push(rest[..start].to_owned());
        rest = &rest[start + rest[start..].find('>').unwrap() + 1..];
    }
    parts.push(rest.to_owned());
    parts
}

impl Row {
    /// Whether a key has the form of this row: a parameter is an id, a partition, an address or a digest.
    fn fits(&self, key: &str) -> bool {
        let Some(mut rest) = key.strip_prefix(self.parts[0].as_str()) else { return false };
        for (index, part) in self.parts.iter().enumerate().skip(1) {
            let is_last = index == self.parts.len() - 1;
            let length =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-./:".contains(c)).unwrap_or(rest.len());
            // The longest parameter after which the rest still fits: ids have no colon, addresses may.
            let end =
                if part.is_empty() && is_last { Some(rest.len()) } else { rest[..].find(part.as_str()) };
            let Some(end) = end.filter(|end| *end > 0 && *end <= length.max(*end)) else { return false };
            if is_last && end + part.len() != rest.len() {
                return false;
            }
            if is_last && part.is_empty() && rest[..end].contains(':') {
                return false;
            }
            rest = &rest[end + part.len()..];
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_a_row_and_its_life() {
    let system = System::start().await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let circle = ada.create_circle("public").await;
    let path = format!("/v1/circles/{circle}");
    bo.join(&circle, &ada).await;
    let message = ada.say(&circle, "Good morning.").await;
    let reads = [
        "/v1/me".to_owned(),
        format!("/v1/users/{}", bo.user),
        "/v1/circles".to_owned(),
        path.clone(),
        format!("{path}/members"),
        format!("{path}/messages"),
        format!("{path}/messages/{message}"),
        "/v1/me/limits".to_owned(),
    ];
    for client in [&ada, &bo] {
        for read in &reads {
            client.get(read).await.expect(200);
            client.get(read).await.expect(200);
        }
    }
    ada.patch(&path, json!({"description": "Changed."})).await.expect(200);
    system.client().post("/v1/auth/refresh", json!({"refresh_token": "x"})).await.expect(401);
    system.client().post("/v1/auth/login", json!({"email": bo.email, "password": "wrong"})).await.expect(401);
    system.client().get("/v1/openapi.json").await.expect(200);
    // A fill that is under way, and a write whose fences stand.
    system.origins[0].arm("tx.fenced", "pause", 1_000, 1).await;
    let fenced = tokio::spawn({
        let (ada, path) = (ada.clone(), path.clone());
        async move { ada.patch(&path, json!({"description": "Again."})).await.expect(200) }
    });
    system.origins[0].wait_for_passes("tx.fenced", 1).await;
    check(&system, 20).await;
    fenced.await.unwrap();
    check(&system, 20).await;
}

/// Checks all keys; there must be so many kinds at least.
async fn check(system: &System, kinds: usize) {
    let rows = rows();
    let mut redis = system.redis.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for key in keys {
        let seconds: i64 = redis::cmd("TTL").arg(&key).query_async(&mut redis).await.unwrap();
        if seconds == -2 {
            continue;
        }
        let fitting: Vec<(usize, &Row)> = rows.iter().enumerate().filter(|(_, row)| row.fits(&key)).collect();
        assert_eq!(fitting.len(), 1, "{key} has one row");
        let (index, row) = fitting[0];
        match &row.seconds {
            None => assert_eq!(seconds, -1, "{key} is kept"),
            // TTL rounds to the nearest second.
            Some(range) => assert!(range.contains(&seconds), "{key} lives {seconds} s, not {range:?}"),
        }
        seen.insert(index);
    }
    assert!(seen.len() >= kinds.min(18), "only {} kinds of keys were written", seen.len());
}
