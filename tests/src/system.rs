//! A whole system for one test.

use base64::Engine as _;
use optimist_shared::limits::{LIMITS, Networks, Scope};
use tempfile::TempDir;

use crate::client::Client;
use crate::edges::{Edge, Kind};
use crate::origin::Origin;
use crate::proxy::Proxy;
use crate::stores::{Postgres, Redis, SHARED, contents, folder};

pub const REGION: &str = "test";
/// The newest migration of the release before partitions.
pub const FORMER: &str = "20";
/// An origin of that release, alive for an hour.
pub const FORMER_ORIGIN: &str = "insert into regions (name) values ('elsewhere');
insert into origins (id, region, seen_at, redis_ok) values (gen_random_uuid(), 'elsewhere', now() + interval '1 hour', true)";
/// SQL after messages of the present month were inserted by hand: their circles learn of them, as a post would tell them. An id is
/// `id_at(next_place(null, 1) + n)`.
pub const TOLD_CIRCLES: &str = "update circles c
set last_id = newest.id, months = array[id_month(newest.id)], month_numbers = array[1]
from (select distinct on (circle_id) circle_id, id from messages order by circle_id, id desc) newest
where c.id = newest.circle_id";
/// The key that edge and origin share, and its id.
pub const SIGNING_KEY: ([u8; 32], &str) = ([7; 32], "k1");

/// The settings that a test may change.
#[derive(Clone, Debug)]
pub struct Options {
    pub kind: Kind,
    pub origins: usize,
    /// A cluster of its own, which may be killed.
    pub own_postgres: bool,
    /// A replica of the cluster, from which relays read.
    pub replica: bool,
    /// Replicas of the cluster, which answer history and reports, and may lag by three seconds.
    pub replicas: usize,
    /// In milliseconds; generous, since most tests are not about deadlines.
    pub redis_deadline_ms: u32,
    /// Seconds that a device counts as present after it has said so.
    pub presence_lease_s: u32,
    /// Event streams through an edge.
    pub streams: u32,
    pub cors_origins: &'static str,
    /// Networks whose callers tell the edge their addresses by `X-Forwarded-For`.
    pub trusted_proxies: &'static str,
    /// Milliseconds that the edge waits for the origin.
    pub origin_deadline_ms: u32,
    /// When data that Redis has appended is safe on disk.
    pub appendfsync: &'static str,
    /// Redis is a cluster of one server; the edge is not told.
    pub redis_cluster: bool,
    /// Every connection between two parts goes through its own proxy, and the edge spreads its requests over the
    /// origins.
    pub paths: bool,
    /// Each store has its own disk, which is in memory, fast, and can be filled.
    pub own_disks: bool,
    /// Further settings of the origins.
    pub settings: Vec<(&'static str, String)>,
    /// An existing database of the shared cluster, by the URLs of its owner and of the serving role.
    pub database: Option<(String, String)>,
    /// The tables are as the release before left them: not in partitions yet. Needs a cluster of its own.
    pub has_former_tables: bool,
}

impl Options {
    /// The edge that `OPTIMIST_EDGE` names.
    pub fn kind_under_test() -> Kind {
        match std::env::var("OPTIMIST_EDGE").as_deref() {
            Err(_) | Ok("embedded") => Kind::Embedded,
            Ok("like-spin") => Kind::LikeSpin,
            Ok("cloudflare") => Kind::Cloudflare,
            Ok("spin") => Kind::Spin,
            Ok(other) => panic!("OPTIMIST_EDGE: there is no edge {other}"),
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            kind: Kind::Embedded,
            origins: 1,
            own_postgres: false,
            replica: false,
            replicas: 0,
            redis_deadline_ms: 5_000,
            presence_lease_s: 300,
            streams: 200,
            cors_origins: "https://app.example.org",
            trusted_proxies: "",
            origin_deadline_ms: 20_000,
            appendfsync: "everysec",
            redis_cluster: false,
            paths: false,
            own_disks: false,
            settings: Vec::new(),
            database: None,
            has_former_tables: false,
        }
    }
}

/// Stores, origins and an edge. The edge reaches the origins, and the origins Redis, through proxies.
pub struct System {
    pub edge: Edge,
    pub origins: Vec<Origin>,
    pub to_origin: Proxy,
    pub origin_to_redis: Proxy,
    pub paths: Option<Paths>,
    pub redis: Redis,
    pub own_postgres: Option<Postgres>,
    _replica: Option<Postgres>,
    pub replicas: Vec<Postgres>,
    pub database: String,
    pub options: Options,
    environment: Vec<(String, String)>,
    folder: TempDir,
}

/// Proxies on the connections that otherwise have none; each origin has its own, by index.
pub struct Paths {
    pub to_edge: Proxy,
    pub edge_to_redis: Proxy,
    pub origin_to_redis: Vec<Proxy>,
    pub origin_to_postgres: Vec<Proxy>,
}

impl Paths {
    async fn new(origins: usize, redis: u16, postgres: u16) -> Paths {
        let to = |port: u16| async move { Proxy::start(&format!("127.0.0.1:{port}")).await };
        let (mut origin_to_redis, mut origin_to_postgres) = (Vec::new(), Vec::new());
        for _ in 0..origins {
            origin_to_redis.push(to(redis).await);
            origin_to_postgres.push(to(postgres).await);
        }
        // The edge does not exist yet; the caller sets this target later.
        Paths { to_edge: to(0).await, edge_to_redis: to(redis).await, origin_to_redis, origin_to_postgres }
    }
}

impl System {
    pub async fn start() -> System {
        System::with(Options::default()).await
    }

    pub async fn with(options: Options) -> System {
        let folder = folder();
        let redis = match (options.redis_cluster, options.own_disks) {
            (true, _) => Redis::cluster(options.appendfsync).await,
            (false, true) => Redis::on_quick_disk(options.appendfsync),
            (false, false) => Redis::start(options.appendfsync),
        };
        let start = if options.own_disks { Postgres::on_small_disk } else { Postgres::start };
        let own_postgres = options.own_postgres.then(start);
        let postgres = own_postgres.as_ref().unwrap_or(&SHARED);
        let migrate = |owner: &str, serve: &str| {
            let settings = environment(owner, serve, "redis://127.0.0.1:1", 250);
            if options.has_former_tables {
                let (succeeded, output) = Origin::command(&settings, &["migrate", "--to", FORMER]);
                assert!(succeeded, "{output}");
                let database = owner.rsplit('/').next().unwrap_or_default();
                postgres.sql(database, FORMER_ORIGIN);
                Origin::migrate(&settings);
                postgres.sql(database, "delete from origins; delete from regions");
            } else {
                Origin::migrate(&settings);
            }
        };
        let (owner, serve) = options.database.clone().unwrap_or_else(|| postgres.migrated_database(migrate));
        let origin_to_redis = Proxy::start(&format!("127.0.0.1:{}", redis.port)).await;
        let mut environment = environment(
            &owner,
            &serve,
            &format!("redis://127.0.0.1:{}", origin_to_redis.port),
            options.redis_deadline_ms,
        );
        environment.push(("OPTIMIST_PRESENCE_LEASE_S".to_owned(), options.presence_lease_s.to_string()));
        for (name, value) in &options.settings {
            environment.retain(|(other, _)| other != name);
            environment.push(((*name).to_owned(), value.clone()));
        }
        let replica = options.replica.then(|| own_postgres.as_ref().unwrap_or(&SHARED).replica());
        if let Some(replica) = &replica {
            let database = serve.rsplit('/').next().unwrap_or_default();
            let url = format!("postgres://serve@127.0.0.1:{}/{database}", replica.port);
            environment.push(("OPTIMIST_RELAY_REPLICA_URL".to_owned(), url));
        }
        let replicas: Vec<Postgres> = (0..options.replicas).map(|_| postgres.replica()).collect();
        if !replicas.is_empty() {
            let database = serve.rsplit('/').next().unwrap_or_default();
            let url = |replica: &Postgres| format!("postgres://serve@127.0.0.1:{}/{database}", replica.port);
            let urls: Vec<String> = replicas.iter().map(url).collect();
            environment.push(("OPTIMIST_REPLICA_URLS".to_owned(), urls.join(",")));
            environment.push(("OPTIMIST_REPLICA_LAG_SECONDS".to_owned(), "3".to_owned()));
        }
        let paths = match options.paths {
            true => {
                let postgres = own_postgres.as_ref().unwrap_or(&SHARED).port;
                Some(Paths::new(options.origins, redis.port, postgres).await)
            }
            false => None,
        };
        let origins: Vec<Origin> = (0..options.origins)
            .map(|index| Origin::start(&through(&environment, paths.as_ref(), index), folder.path()))
            .collect();
        let to_origin = Proxy::start(address(&origins[0].api)).await;
        if options.paths {
            to_origin.send_to_any(addresses(&origins));
        }
        let origin_url = format!("http://{}", to_origin.address());
        let edge = Edge::start(
            options.kind,
            &edge_settings(&origin_url, &redis_of_edge(&redis, paths.as_ref()), &options),
            folder.path(),
        );
        if let Some(paths) = &paths {
            paths.to_edge.send_to(address(&edge.url));
        }
        for origin in &origins {
            origin.wait_until_vouching(&redis).await;
        }
        let database = serve.rsplit('/').next().unwrap_or_default().to_owned();
        System {
            edge,
            origins,
            to_origin,
            origin_to_redis,
            paths,
            redis,
            own_postgres,
            _replica: replica,
            replicas,
            database,
            options,
            environment,
            folder,
        }
    }

    /// Another edge in front of the same origin.
    pub fn another_edge(&self, kind: Kind) -> Edge {
        self.edge_before(kind, &format!("http://127.0.0.1:{}", self.to_origin.port))
    }

    /// Another edge in front of this origin.
    pub fn edge_before(&self, kind: Kind, origin_url: &str) -> Edge {
        let folder = self.folder.path().join(format!("{kind:?}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        Edge::start(kind, &self.edge_settings(origin_url), &folder)
    }

    /// A Worker in front of the same origin, whose objects fail when a request asks for it.
    pub fn worker_with_faults(&self, objects: u32) -> Edge {
        let folder = self.folder.path().join("faults");
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut settings = self.edge_settings(&format!("http://127.0.0.1:{}", self.to_origin.port));
        settings.push(("redis_objects".to_owned(), objects.to_string()));
        Edge::cloudflare_with_faults(&settings, &folder)
    }

    fn edge_settings(&self, origin_url: &str) -> Vec<(String, String)> {
        edge_settings(origin_url, &redis_of_edge(&self.redis, self.paths.as_ref()), &self.options)
    }

    /// The URL of the edge for clients.
    pub fn url(&self) -> String {
        self.paths
            .as_ref()
            .map_or_else(|| self.edge.url.clone(), |paths| format!("http://{}", paths.to_edge.address()))
    }

    /// Replaces an edge that is gone.
    pub fn replace_edge(&mut self) {
        let origin_url = format!("http://{}", self.to_origin.address());
        self.edge = Edge::start(self.options.kind, &self.edge_settings(&origin_url), self.folder.path());
        if let Some(paths) = &self.paths {
            paths.to_edge.send_to_any(vec![address(&self.edge.url).to_owned()]);
        }
    }

    /// The origins' settings.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone()
    }

    /// Replaces an origin that is gone, and points the edge at the new one.
    pub fn replace_origin(&mut self, index: usize) {
        let environment = through(&self.environment, self.paths.as_ref(), index);
        self.origins[index] = Origin::start(&environment, self.folder.path());
        if self.paths.is_some() {
            self.to_origin.send_to_any(addresses(&self.origins));
        } else {
            self.to_origin.send_to(address(&self.origins[index].api));
        }
    }

    /// Registers a person, and signs in as them.
    pub async fn register(&self, name: &str) -> Client {
        self.forget_address_limits().await;
        Client::register(&self.url(), name).await
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// Resets the address limits, since every test comes from the same address.
    pub async fn forget_address_limits(&self) {
        let mut redis = self.redis.connect().await;
        let networks = Networks::of("127.0.0.1");
        let keys: Vec<String> = LIMITS.iter().filter_map(|row| networks.key(row)).collect();
        let _: () = redis::cmd("DEL").arg(keys).query_async(&mut redis).await.expect("redis answers");
    }

    /// Resets a user's limits, for tests that are not about them.
    pub async fn forget_limits_of(&self, client: &Client) {
        let mut redis = self.redis.connect().await;
        let limits = LIMITS.iter().filter(|row| row.scope == Scope::User);
        let keys: Vec<String> = limits.map(|row| row.key(&client.user)).collect();
        let _: () = redis::cmd("DEL").arg(keys).query_async(&mut redis).await.expect("redis answers");
    }

    /// The logs of origins and edges.
    pub fn logs(&self) -> Vec<u8> {
        contents(self.folder.path(), &|path| path.extension().is_some_and(|extension| extension == "log"))
    }

    /// Runs a statement in the system's database, as its owner.
    pub fn sql(&self, sql: &str) -> String {
        self.own_postgres.as_ref().unwrap_or(&SHARED).sql(&self.database, sql)
    }
}

/// The settings of origin `index`, with its own proxies to the stores, if there are any.
fn through(environment: &[(String, String)], paths: Option<&Paths>, index: usize) -> Vec<(String, String)> {
    let mut environment = environment.to_vec();
    let Some(paths) = paths else { return environment };
    for (name, value) in &mut environment {
        match name.as_str() {
            "OPTIMIST_REDIS_URL" => *value = format!("redis://{}", paths.origin_to_redis[index].address()),
            "OPTIMIST_DATABASE_URL" => {
                let database = value.rsplit('/').next().unwrap_or_default();
                *value = format!("postgres://serve@{}/{database}", paths.origin_to_postgres[index].address());
            }
            _ => {}
        }
    }
    environment
}

fn addresses(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| address(&origin.api).to_owned()).collect()
}

fn redis_of_edge(redis: &Redis, paths: Option<&Paths>) -> String {
    paths.map_or_else(|| redis.url(), |paths| format!("redis://{}", paths.edge_to_redis.address()))
}

/// `host:port` of a URL.
pub fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// An origin's settings: the URLs of the database for its owner and for the serving role, and of Redis.
pub fn environment(owner: &str, serve: &str, redis: &str, redis_deadline_ms: u32) -> Vec<(String, String)> {
    let key = |id: &str| format!("{id}:{}", base64::engine::general_purpose::STANDARD.encode(SIGNING_KEY.0));
    [
        ("DATABASE_URL", serve.to_owned()),
        ("MIGRATE_DATABASE_URL", owner.to_owned()),
        ("REDIS_URL", redis.to_owned()),
        ("REGION", REGION.to_owned()),
        ("SIGNING_KEYS", key(SIGNING_KEY.1)),
        ("TOKEN_KEYS", key("t1")),
        ("JOURNAL_KEYS", key("j1")),
        ("OUTGOING_ALLOW", "127.0.0.0/8".to_owned()),
        ("VAPID_KEY", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([9; 32])),
        ("VAPID_SUBJECT", "mailto:operator@example.org".to_owned()),
        ("UNVERIFIED_ACCOUNTS", "allow".to_owned()),
        ("REDIS_DEADLINE_MS", redis_deadline_ms.min(1_000).to_string()),
    ]
    .map(|(name, value)| (format!("OPTIMIST_{name}"), value))
    .to_vec()
}

/// An edge's settings, by the names of its configuration.
pub fn edge_settings(origin_url: &str, redis_url: &str, options: &Options) -> Vec<(String, String)> {
    let key =
        format!("{}:{}", SIGNING_KEY.1, base64::engine::general_purpose::STANDARD.encode(SIGNING_KEY.0));
    [
        ("region", REGION.to_owned()),
        ("origin_url", origin_url.to_owned()),
        ("redis_url", redis_url.to_owned()),
        ("signing_keys", key),
        ("cors_origins", options.cors_origins.to_owned()),
        ("trusted_proxies", options.trusted_proxies.to_owned()),
        ("redis_deadline_ms", options.redis_deadline_ms.to_string()),
        ("presence_lease_s", options.presence_lease_s.to_string()),
        ("streams", options.streams.to_string()),
        ("origin_deadline_ms", options.origin_deadline_ms.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
