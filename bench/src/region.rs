//! The system under test: stores, an origin and edges as in production, without proxies between them, and the members
//! of a circle.

use std::sync::Arc;

use optimist_shared::ids::Uuid;
use optimist_shared::session::{Token, hash_secret};
use optimist_tests::processes::Process;
use optimist_tests::stores::{Postgres, Redis, folder};
use optimist_tests::system::{TOLD_CIRCLES, edge_settings, environment};
use optimist_tests::{Client, Edge, Kind, Options, Origin};
use reqwest::Method;
use tempfile::TempDir;

use crate::closed_loop::Subject;
use crate::http1::{Request, authority};
use crate::processor::Worker;

/// A region: Postgres that commits to disk, Redis that syncs its append-only file every second by default, and an
/// origin.
pub struct Region {
    pub origin: Origin,
    pub redis: Redis,
    pub postgres: Postgres,
    pub database: String,
    pub options: Options,
    pub folder: TempDir,
}

impl Region {
    pub async fn start() -> Region {
        Region::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Region {
        Region::before(Postgres::durable(), options).await
    }

    /// A region whose Postgres notes when each transaction was committed.
    pub async fn that_notes_commits() -> Region {
        let mut postgres = Postgres::durable();
        postgres.sql("postgres", "alter system set track_commit_timestamp = on");
        postgres.kill();
        postgres.launch();
        Region::before(postgres, Options::default()).await
    }

    async fn before(postgres: Postgres, options: Options) -> Region {
        let folder = folder();
        let redis = Redis::start(options.appendfsync);
        let (owner, serve) = postgres.database();
        let environment = environment(&owner, &serve, &redis.url(), options.redis_deadline_ms);
        Origin::migrate(&environment);
        let origin = Origin::start(&environment, folder.path());
        origin.wait_until_vouching(&redis).await;
        let database = serve.rsplit('/').next().unwrap_or_default().to_owned();
        Region { origin, redis, postgres, database, options, folder }
    }

    /// Starts an edge in front of the origin.
    pub fn edge(&self, kind: Kind) -> Edge {
        Edge::start(kind, &self.edge_settings(&self.redis.url()), self.folder.path())
    }

    pub fn edge_settings(&self, redis_url: &str) -> Vec<(String, String)> {
        edge_settings(&self.origin.api, redis_url, &self.options)
    }

    /// A server in front of the stores, and the stores.
    pub fn workers(&self, name: &'static str, process: &Process) -> Vec<Worker> {
        let server = Worker { name, process: process.id() };
        [server].into_iter().chain(self.stores()).collect()
    }

    /// An edge, the origin and the stores.
    pub fn all_workers(&self, edge: &Edge) -> Vec<Worker> {
        let mut workers = self.workers("the edge", &edge.process);
        workers.insert(1, self.origin_worker());
        workers
    }

    pub fn origin_worker(&self) -> Worker {
        Worker { name: "the origin", process: self.origin.process_id() }
    }

    pub fn stores(&self) -> [Worker; 2] {
        [
            Worker { name: "Redis", process: self.redis.process_id() },
            Worker { name: "Postgres", process: self.postgres.process_id() },
        ]
    }

    /// Runs a statement as the owner of the schema.
    pub fn sql(&self, sql: &str) -> String {
        self.postgres.sql(&self.database, sql)
    }

    /// The origin's metrics page.
    pub async fn page(&self) -> String {
        let answer = reqwest::get(format!("{}/metrics", self.origin.internal)).await;
        answer.expect("the origin answers").text().await.expect("a page")
    }

    /// The database's URL, as the role that serves.
    pub fn database_url(&self) -> String {
        format!("postgres://serve@127.0.0.1:{}/{}", self.postgres.port, self.database)
    }

    /// A private circle of `members` with 20 messages that some members have reacted to; Redis holds all of it.
    pub async fn circle(&self, edge_url: &str, members: usize) -> Circle {
        let members = self.people(members);
        let circle = Circle { id: self.circle_of(&members), members };
        circle.warm(edge_url).await;
        circle.react(edge_url).await;
        // Postgres must have the reactions as well: a peer reads them there.
        let wanted = (REACTORS.len() * MESSAGES).to_string();
        let flushed = || self.sql("select coalesce(sum(count), 0) from reaction_counts") == wanted;
        while !flushed() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        circle
    }

    /// Creates `count` people with a session each, by SQL: hashing their passwords would take longer than the
    /// measurement.
    pub fn people(&self, count: usize) -> Vec<Member> {
        let people: Vec<Member> = (0..count).map(|_| Member::random()).collect();
        for some in people.chunks(AT_A_TIME) {
            let users = rows(some, |member| {
                format!("('{0}', '{0}@example.org', 'none', 'Ada', 'bench')", member.user)
            });
            let sessions = rows(some, |member| {
                let Token { user, session, secret } = &member.token;
                format!(
                    "('{session}', '{user}', '{session}', '{}', 'none', 't1', {LIFE})",
                    hash_secret(secret)
                )
            });
            self.sql(&format!(
                "insert into users (id, email, password_hash, name, home_region) values {users};
                 insert into sessions
                 (id, user_id, family, secret_hash, refresh_hash, token_key, idle_until, absolute_until)
                 values {sessions}"
            ));
        }
        people
    }

    /// A private circle of these members, owned by the first, with 20 messages. In Postgres only.
    pub fn circle_of(&self, members: &[Member]) -> String {
        let (circle, owner) = (Uuid::now_v7(), members[0].user);
        self.sql(&format!(
            "insert into circles (id, name, visibility, owner_id, member_count, last_number)
             values ('{circle}', 'A circle', 'private', '{owner}', {}, {MESSAGES});
             insert into messages (id, circle_id, number, author_id, body, created_at)
             select id_at(next_place(null, 1) + n), '{circle}', n, '{owner}', '{BODY}', '2026-11-01 08:00:00.123456Z'
             from generate_series(1, {MESSAGES}) n;
             {TOLD_CIRCLES}",
            members.len()
        ));
        let role = |member: &Member| if member.user == owner { "owner" } else { "member" };
        for some in members.chunks(AT_A_TIME) {
            let rows = rows(some, |member| format!("('{circle}', '{}', '{}')", member.user, role(member)));
            self.sql(&format!("insert into memberships (circle_id, user_id, role) values {rows}"));
        }
        circle.to_string()
    }
}

const MESSAGES: usize = 20;
/// The reactions of the first members.
const REACTORS: [&str; 3] = ["heart", "hug", "laugh"];
const BODY: &str = "A morning page of about a hundred and forty characters, which is what people write to each other when they \
                    mean to be read before noon.";
/// `idle_until` and `absolute_until` of a session that starts now.
const LIFE: &str = "now() + interval '30 minutes', now() + interval '30 days'";
/// Rows per statement: the length of a command line is limited.
const AT_A_TIME: usize = 200;

fn rows(members: &[Member], row: impl Fn(&Member) -> String) -> String {
    members.iter().map(row).collect::<Vec<_>>().join(",")
}

pub struct Circle {
    pub id: String,
    pub members: Vec<Member>,
}

pub struct Member {
    pub user: Uuid,
    pub token: Token,
}

impl Member {
    /// Someone whom nobody knows.
    pub fn random() -> Member {
        let user = Uuid::now_v7();
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        secret[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Member { user, token: Token { user, session: Uuid::now_v7(), secret } }
    }

    /// A client of the API with this member's session.
    pub fn client(&self, edge_url: &str) -> Client {
        let mut client = Client::new(edge_url).with_token(self.token.render());
        client.user = self.user.to_string();
        client
    }
}

impl Circle {
    pub fn path(&self) -> String {
        format!("/v1/circles/{}/messages", self.id)
    }

    /// Every member reads the messages once, so that Redis holds session, membership, messages and counts.
    pub async fn warm(&self, edge_url: &str) {
        let path = Arc::new(self.path());
        for some in self.members.chunks(16) {
            let reads = some.iter().map(|member| {
                let (client, path) = (member.client(edge_url), path.clone());
                async move { client.get(&path).await.expect(200) }
            });
            futures_util::future::join_all(reads).await;
        }
    }

    /// Three members react to all messages.
    async fn react(&self, edge_url: &str) {
        let messages = self.members[0].client(edge_url).get(&self.path()).await.expect(200);
        let messages = messages.body["items"].as_array().expect("items").clone();
        for (member, kind) in self.members.iter().zip(REACTORS) {
            let client = member.client(edge_url);
            for message in &messages {
                let message = message["id"].as_str().expect("an id");
                let path = format!("{}/{message}/reactions/{kind}", self.path());
                client.send(Method::PUT, &path, &[], None).await.expect(202);
            }
        }
    }

    /// Reads of the messages by all members in turn, from a server that implements the API.
    pub fn reads(&self, name: &str, url: &str, workers: Vec<Worker>) -> Subject {
        let request = |member: &Member| {
            let authorization = format!("Bearer {}", member.token.render());
            Request::new("GET", authority(url), &self.path(), &[("authorization", &authorization)], b"")
        };
        Subject {
            name: name.to_owned(),
            url: url.to_owned(),
            workers,
            requests: self.members.iter().map(request).collect(),
            is_right: |answer| answer.status == 200 && answer.header("cache-status").contains("hit"),
        }
    }

    /// The same read without a token: the closest answer that an edge gives without Redis.
    pub fn refused(&self, name: &str, url: &str, workers: Vec<Worker>) -> Subject {
        Subject {
            name: name.to_owned(),
            url: url.to_owned(),
            workers,
            requests: vec![Request::new("GET", authority(url), &self.path(), &[], b"")],
            is_right: |answer| answer.status == 401,
        }
    }
}
