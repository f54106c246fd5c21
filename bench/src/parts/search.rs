//! Searching messages, for a person in 200 of 20,000 circles, of which two thirds are public. Beside it, the same matches as a statement
//! that knows no bounds finds them, from an index of the words alone; it ranks and shows nothing. And beside it, a Tantivy index of
//! the same messages, which ranks them, and loads and shows nothing.
//!
//! Messages are of the past 24 months: the older, the fewer. Words are as unequal as in languages: each text of 4 to 33 words has
//! one of them (`w1`) two times in three, and the rarest once in some ten thousand.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use optimist_shared::limits::Limit;
use optimist_tests::Kind;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::Settings;
use crate::peers::Tantivy;
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

const QUICK_MESSAGES: u64 = 20_000;
/// Milliseconds that 95 of 100 searches may take.
const BOUND_MS: f64 = 50.0;
/// Searches of each kind in a turn.
const SEARCHES: u64 = 20;

/// People, circles, and those that the searcher is in: number 1 is the largest.
const CROWD: &str = "
set session_replication_role = replica;
insert into users (id, email, password_hash, name, home_region)
select md5('p' || n)::uuid, n || '@example.org', 'none', 'Ada', 'bench' from generate_series(1, 1000) n;
insert into circles (id, name, visibility, owner_id)
select md5('c' || n)::uuid, 'Circle ' || n, case when n % 3 = 0 then 'private' else 'public' end, md5('p1')::uuid
from generate_series(1, 20000) n;
select make_leaf('messages', leaf_now('messages') - n) from generate_series(1, 24) n;";

fn memberships(searcher: &str) -> String {
    format!(
        "insert into memberships (circle_id, user_id, role)
         select md5('c' || case when n <= 20 then n else n * 97 end)::uuid, '{searcher}', 'member' from generate_series(1, 200) n"
    )
}

/// Messages from number `from` to `to` of `all`.
fn messages(from: u64, to: u64, all: u64) -> String {
    format!(
        "set session_replication_role = replica;
         insert into messages (id, circle_id, number, author_id, body, created_at)
         select (left(id_least(at)::text, 13) || '-7abc-8' || substr(md5(n::text), 1, 3) || '-' || substr(md5(n::text), 4, 12))::uuid,
             md5('c' || floor(exp(random() * ln(20000)))::int)::uuid, n, md5('p' || n % 1000 + 1)::uuid,
             (select string_agg('w' || floor(exp(random() * ln(30000)))::int, ' ') from generate_series(1, 4 + n % 30) where n > 0), at
         from (select n, now() - interval '700 days' * (1 - n::float8 / {all}) ^ 2 as at from generate_series({from}, {to}) n) each"
    )
}

/// All messages, as the Tantivy index takes them.
const CORPUS: &str = "
copy (
    select m.circle_id, c.visibility = 'public' and c.archived_at is null, (extract(epoch from m.created_at) * 1000)::bigint, m.body
    from messages m join circles c on c.id = m.circle_id where m.deleted_at is null
) to stdout";

/// A query in three languages: the API's, Postgres's, and that of the process with the Tantivy index.
struct Searched {
    query: String,
    sought: String,
    indexed: String,
}

fn searched(turn: u64) -> Vec<Searched> {
    let looked_for = |query: String, sought: String, indexed: String| Searched { query, sought, indexed };
    let each = |nth: u64| {
        let (rare, frequent) = (500 + (turn * SEARCHES + nth) * 337 % 29_000, 1 + nth * 5 % 60);
        let other = 1 + (nth * 7 + turn) % 90;
        [
            looked_for(format!("\"w{rare}\""), format!("'w{rare}'"), format!("word w{rare}")),
            looked_for(format!("\"w{frequent}\""), format!("'w{frequent}'"), format!("word w{frequent}")),
            looked_for(
                format!("\"w{frequent}\" -w{other}"),
                format!("'w{frequent}' & !'w{other}'"),
                format!("without w{frequent} w{other}"),
            ),
            looked_for(
                format!("w{other} \"w{rare}\""),
                format!("'w{other}' & 'w{rare}'"),
                format!("both w{other} w{rare}"),
            ),
            looked_for(
                format!("\"w{frequent} w{other}\""),
                format!("'w{frequent}' <-> 'w{other}'"),
                format!("phrase w{frequent} w{other}"),
            ),
            looked_for(format!("w{rare}"), format!("'w{rare}':*"), format!("beginning w{rare}")),
        ]
    };
    (0..SEARCHES).flat_map(each).collect()
}

const PLAIN: &str = "
select m.id from messages m
join circles c on c.id = m.circle_id
left join memberships mine on mine.circle_id = m.circle_id and mine.user_id = $2
where search_words(m.body) @@ $1::text::tsquery and m.deleted_at is null
  and coalesce(mine.role <> 'banned', c.visibility = 'public' and c.archived_at is null)
order by m.id desc limit 1000";

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let edge = region.edge(Kind::Embedded);
    let count = if settings.quick { QUICK_MESSAGES } else { settings.messages };
    let began = Instant::now();
    region.sql(CROWD);
    let searcher = region.people(1).remove(0);
    region.sql(&memberships(&searcher.user.to_string()));
    for from in (1..=count).step_by(100_000) {
        region.sql(&messages(from, (from + 99_999).min(count), count));
    }
    region.sql("create index on messages using gin (search_words(body)) where deleted_at is null");
    region.sql("vacuum analyze");
    println!("  {count} messages in {} s", began.elapsed().as_secs());

    let client = searcher.client(&edge.url);
    let (plain, connection) =
        tokio_postgres::connect(&region.database_url(), NoTls).await.expect("postgres answers");
    tokio::spawn(connection);
    plain.batch_execute("set jit = off; set random_page_cost = 1.1").await.expect("settings");
    let mut tantivy = indexed(&plain, &searcher.user).await;
    let mut redis = region.redis.connect().await;
    let limit = [Limit::Searches, Limit::Forwarded].map(|limit| limit.row().key(&searcher.user.to_string()));
    let (mut ours, mut others, mut middle, mut peers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // The first turn brings pages into memory.
    for turn in 0..=settings.turns as u64 {
        let (mut of_ours, mut of_others, mut of_peer) = (Vec::new(), Vec::new(), Vec::new());
        for Searched { query, sought, indexed } in searched(turn) {
            let _: () = redis::cmd("DEL").arg(&limit).query_async(&mut redis).await.expect("redis answers");
            let url =
                reqwest::Url::parse_with_params("http://edge/v1/search", [("q", &query)]).expect("a URL");
            let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
            let began = Instant::now();
            let found = client.get(&path).await.expect(200);
            of_ours.push(began.elapsed().as_secs_f64() * 1e3);
            let (results, milliseconds) = tantivy.search(&indexed);
            of_peer.push(milliseconds);
            let is_empty = found.body["items"].as_array().expect("a page").is_empty();
            assert!(
                is_empty == (results == 0) || found.body["truncated"] == true,
                "{query}: {results}, {found:?}"
            );
            let began = Instant::now();
            plain.query(PLAIN, &[&sought, &searcher.user]).await.expect("rows");
            of_others.push(began.elapsed().as_secs_f64() * 1e3);
        }
        if turn > 0 {
            middle.push(percentile(&mut of_ours, 0.5));
            ours.push(percentile(&mut of_ours, 0.95));
            others.push(percentile(&mut of_others, 0.95));
            peers.push(percentile(&mut of_peer, 0.95));
        }
    }
    let what = format!("searching {count} messages, 95 of 100 requests");
    let figures = vec![
        Figure::plain(&what, "ms", ours.clone(), Target::AtMost(BOUND_MS)),
        Figure::times(
            &format!("{what}: beside an index in Tantivy, which loads no texts and asks for no rights"),
            Side::new("a search, end to end", "ms", ours.clone()),
            Side::new("a search of the Tantivy index alone", "ms", peers),
            Target::None,
        ),
        Figure::times(
            &format!("{what}: with its index, beside words alone"),
            Side::new("a search, end to end", "ms", ours),
            Side::new("the statement without bounds", "ms", others),
            Target::AtMost(1.0),
        )
        .beside([Side::new("a search, half of the requests", "ms", middle)]),
    ];
    Outcome { figures, plots: Vec::new() }
}

/// The messages in a Tantivy index, for this searcher.
async fn indexed(postgres: &tokio_postgres::Client, searcher: &Uuid) -> Tantivy {
    let began = Instant::now();
    let mut tantivy = Tantivy::start();
    let mut lines = std::pin::pin!(postgres.copy_out(CORPUS).await.expect("rows"));
    while let Some(chunk) = lines.next().await {
        tantivy.take(&chunk.expect("rows"));
    }
    let circles = "select circle_id from memberships where user_id = $1";
    let circles = postgres.query(circles, &[searcher]).await.expect("circles");
    let circles: Vec<String> = circles.iter().map(|row| row.get::<_, Uuid>(0).to_string()).collect();
    let bytes = tantivy.complete(&circles);
    println!("  {} MiB in a Tantivy index in {} s", bytes >> 20, began.elapsed().as_secs());
    tantivy
}

fn percentile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * part).round() as usize]
}
