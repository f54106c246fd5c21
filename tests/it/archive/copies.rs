//! What is read while months leave: no copy shows what is archived, and pages of the trail say where it begins as those of messages do.

use super::*;
use optimist_tests::until;

pub fn next_month(month: &str) -> String {
    let (year, month) = month.split_once('-').unwrap();
    let (year, month): (u32, u32) = (year.parse().unwrap(), month.parse().unwrap());
    format!("{:04}-{:02}-01T00:00:00.000Z", year + month / 12, month % 12 + 1)
}

/// Ends what copies there are, as time does.
async fn lapse(system: &System) {
    system.sql("update regions set epoch = epoch + 1");
    tokio::time::sleep(Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_leaves_once_no_copy_of_its_rows_can_be_left() {
    let aged = Aged::start().await;
    let ada = &aged.ada;
    let message = aged.path(&format!("/{}", aged.messages[1]));
    let young = ada.create_circle("public").await;
    let young = format!("/v1/circles/{young}/messages");
    for path in [&message, &aged.path("")] {
        until("it is kept", async || ada.get(path).await.expect(200).is_hit()).await;
    }
    let run = || {
        let (succeeded, output) = aged.try_archive(&["run"], &[("OPTIMIST_TEST_DISABLED", "")]);
        assert!(succeeded, "{output}");
        output
    };
    for _ in 0..2 {
        assert!(run().contains("no copy of its rows is left"));
        assert_eq!(aged.months.clone().map(|month| aged.state("messages", &month)), ["written", "written"]);
    }
    lapse(&aged.system).await;
    for _ in 0..5 {
        let page = ada.get(&aged.path("?limit=50")).await.expect(200);
        assert_eq!((page.is_hit(), page.body["items"].as_array().unwrap().len()), (false, 50));
        assert_eq!(
            (ada.get(&message).await.expect(200).is_hit(), &page.body["archived_before"]),
            (false, &Value::Null)
        );
    }
    until("others are kept", async || ada.get(&young).await.expect(200).is_hit()).await;
    aged.system.sql("update archived set changed_at = changed_at - interval '41 minutes'");
    run();
    let page = ada.get(&aged.path("")).await.expect(200);
    assert_eq!(page.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(page.text("/archived_before"), next_month(&aged.months[1]));
    refused(&ada.get(&message).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_tells_where_the_archive_begins() {
    let aged = Aged::start().await;
    let system = &aged.system;
    let root = system.register("Root").await;
    assert!(Origin::command(&system.environment(), &["admin", "grant", &root.email]).0);
    let months = [16, 15].map(|ago| {
        system.sql(&format!(
            "select to_char(month_begin(month_number(now()) - {ago}) at time zone 'UTC', 'YYYY-MM')"
        ))
    });
    system.sql("select make_leaf('audit', leaf_now('audit') - n) from generate_series(15, 16) n");
    let old = system.sql(
        "select id_at(floor(extract(epoch from month_begin(month_number(now()) - 17)) * 1000)::bigint << 12)",
    );
    system.sql(&format!(
        "insert into audit (at, xid, seq, kind, user_id, payload)
         select month_begin(month_number(now()) - n) + interval '3 days', '3', n, 'user.updated', '{old}', '{{}}'
         from generate_series(15, 16) n"
    ));
    let of_old = format!("/v1/admin/audit?user={old}");
    let read = async |path: &str| {
        let page = root.get(path).await.expect(200);
        (
            page.body["items"].as_array().unwrap().len(),
            page.body["archived_before"].clone(),
            page.body["next"].clone(),
        )
    };
    assert_eq!(read(&of_old).await, (2, Value::Null, Value::Null));
    let (count, _, second) = read(&format!("{of_old}&limit=1")).await;
    assert_eq!(count, 1);

    aged.archive(&["run"]);
    assert_eq!(months.clone().map(|month| aged.state("audit", &month)), ["detached", "detached"]);
    let begins = Value::from(next_month(&months[1]));
    assert_eq!(read(&of_old).await, (0, begins.clone(), Value::Null));
    let (count, before, next) = read("/v1/admin/audit").await;
    assert!(
        count > 0 && before == begins && next.is_null(),
        "everything of today, and then the archive: {before}"
    );
    assert_eq!(read("/v1/admin/audit?limit=1").await.1, Value::Null, "it ends before");
    // Nobody's who is younger.
    assert_eq!(read("/v1/me/audit").await.1, Value::Null);
    assert_eq!(read(&format!("/v1/admin/audit?circle={}", aged.circle)).await.1, Value::Null);

    aged.archive(&["restore", "audit", &months[0]]);
    system.sql("update archived set changed_at = changed_at - interval '2 minutes' where state = 'restored'");
    assert_eq!(read(&of_old).await, (1, begins.clone(), Value::Null));
    let from_within = format!("{of_old}&before={}", second.as_str().unwrap());
    assert_eq!(read(&from_within).await, (1, begins, Value::Null));
    aged.archive(&["restore", "audit", &months[1]]);
    system.sql("update archived set changed_at = changed_at - interval '2 minutes' where state = 'restored'");
    assert_eq!(read(&of_old).await, (2, Value::Null, Value::Null));
}
