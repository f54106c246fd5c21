//! Objects that erased people can be in, and those that they cannot.

use super::*;
use optimist_tests::until;

impl Aged {
    /// Gives what a person has in the old months to one whose account is older than these. Returns that one's id.
    pub fn becomes_old(&self, person: &Client) -> String {
        let id =
            "id_at(floor(extract(epoch from month_begin(month_number(now()) - 28)) * 1000)::bigint << 12)";
        let old = self.system.sql(&format!("select {id}"));
        self.system.sql(&format!(
            "insert into users (id, email, password_hash, name, time_zone, home_region)
             select '{old}', 'old@example.org', password_hash, name, time_zone, home_region from users where id = '{0}';
             update messages set author_id = '{old}' where author_id = '{0}';
             update reactions set user_id = '{old}' where user_id = '{0}'",
            person.user
        ));
        old
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_is_searched_for_somebody_who_came_later() {
    let aged = Aged::start().await;
    let bob = aged.becomes_old(&aged.bob);
    aged.archive(&["run"]);
    for (who, is_searched) in [(&aged.ada.user, false), (&bob, true)] {
        // Whoever reads it notices.
        let object = aged.object("messages", &aged.months[0]);
        let whole = std::fs::read(&object).unwrap();
        std::fs::remove_file(&object).unwrap();
        aged.erase(who);
        let (succeeded, output) = aged.try_archive(&["run"], &[]);
        assert_eq!(succeeded, !is_searched, "{output}");
        std::fs::write(&object, whole).unwrap();
    }
    aged.archive(&["run"]);
    assert_eq!(
        aged.system.sql("select count(distinct erased) from archived where name = 'messages' and erased > 0"),
        "1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_goes_through_a_month_once() {
    const MANY: u64 = 20_000;
    let aged = Aged::start().await;
    let bob = aged.becomes_old(&aged.bob);
    aged.system.sql(&format!(
        "insert into messages (id, circle_id, number, author_id, body, created_at)
         select id_at((floor(extract(epoch from month_begin(month_number(now()) - 27)) * 1000)::bigint + n) << 12), '{}', 10000 + n,
             '{bob}', 'Number ' || n, now()
         from generate_series(1, {MANY}) n;
         insert into erased (user_id, done_at) select gen_random_uuid(), now() from generate_series(1, {MANY})",
        aged.circle,
    ));
    let month = &aged.months[0];
    aged.archive(&["run"]);
    aged.erase(&bob);
    aged.archive(&["restore", "messages", month]);
    let leaf = format!("messages_{}", month.replace('-', "_"));
    assert_eq!(
        aged.system.sql(&format!("select count(*) from {leaf} where author_id = '{bob}' and body <> ''")),
        "0"
    );
    // The month was read twice to compare it with its object, and twice to erase: by key, and by what is done to its rows. The list
    // of the erased was asked once for each row.
    let of_table = |table: &str| -> u64 {
        let sql = "select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relname";
        aged.system.sql(&format!("{sql} = '{table}'")).parse().unwrap()
    };
    let mut read = 0;
    until("what was read is counted", async || {
        read = of_table(&leaf);
        read > 3 * MANY
    })
    .await;
    assert!(read < 5 * MANY, "{read} rows were read");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_erased_have_kept_stays_in_objects() {
    let aged = Aged::start().await;
    let bob = aged.becomes_old(&aged.bob);
    aged.archive(&["run"]);
    let [older, newer] = &aged.months;
    let (texts, reactions) = (aged.object("messages", older), aged.object("reactions", older));
    let before = unpacked(&texts);
    let (succeeded, output) = Origin::command(&aged.settings, &["erasure", "apply", &bob, "--keep-messages"]);
    assert!(succeeded, "{output}");
    aged.archive(&["run"]);
    assert_eq!(unpacked(&aged.object("messages", older)), before);
    assert!(!unpacked(&aged.object("reactions", older)).contains(&bob));
    assert!(!reactions.exists(), "the former object is gone");
    aged.archive(&["restore", "messages", newer]);
    let kept = format!(
        "select count(*) > 0 from messages_{} where author_id = '{bob}' and body <> ''",
        newer.replace('-', "_")
    );
    assert_eq!(aged.system.sql(&kept), "t");
}
