//! A Redis server of a test's own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::authority::Certificate;
use crate::disk::Disk;
use crate::processes::{Launch, Process, free_port};
use crate::stores::{contents, folder};

/// A Redis server with an append-only file.
pub struct Redis {
    /// Must be dropped before the folder over which it is mounted.
    _disk: Option<Disk>,
    folder: TempDir,
    /// When appended data is safe on disk: `always`, or `everysec`.
    appendfsync: &'static str,
    /// It refuses commands with keys of two slots, as a cluster does.
    is_cluster: bool,
    pub port: u16,
    process: Option<Process>,
}

impl Redis {
    pub fn start(appendfsync: &'static str) -> Redis {
        Redis::create(appendfsync, false, false)
    }

    /// On its own disk in memory, which stays fast whatever the machine's disk is doing.
    pub fn on_quick_disk(appendfsync: &'static str) -> Redis {
        Redis::create(appendfsync, true, false)
    }

    /// A cluster of one server, which has all slots.
    pub async fn cluster(appendfsync: &'static str) -> Redis {
        let redis = Redis::create(appendfsync, false, true);
        let mut connection = redis.connect().await;
        let mut add = redis::cmd("CLUSTER");
        add.arg("ADDSLOTSRANGE").arg(0).arg(16_383);
        let _: () = add.query_async(&mut connection).await.expect("redis takes all slots");
        let deadline = crate::patience();
        loop {
            let info: String =
                redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.expect("redis answers");
            if info.contains("cluster_state:ok") {
                return redis;
            }
            assert!(Instant::now() < deadline, "the cluster is not ready: {info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn create(appendfsync: &'static str, quick_disk: bool, is_cluster: bool) -> Redis {
        let folder = folder();
        let disk = quick_disk.then(|| Disk::mount(folder.path()));
        let mut redis =
            Redis { _disk: disk, folder, appendfsync, is_cluster, port: free_port(), process: None };
        redis.launch();
        redis
    }

    pub fn launch(&mut self) {
        let server = std::env::var_os("OPTIMIST_REDIS_SERVER")
            .map_or_else(|| PathBuf::from("/usr/bin/redis-server"), PathBuf::from);
        assert!(server.exists(), "{} is missing", server.display());
        let mut arguments = format!(
            "--port {} --bind 127.0.0.1 --dir {} --appendonly yes --appendfsync {} --save \"\" --maxmemory-policy noeviction",
            self.port,
            self.folder.path().display(),
            self.appendfsync
        );
        if self.is_cluster {
            // The servers of a cluster talk on a port of their own, usually 10,000 above.
            arguments += &format!(" --cluster-enabled yes --cluster-port {}", free_port());
        }
        self.process = Some(Process::start(&Launch {
            program: &server,
            arguments: arguments.split(' ').map(|word| word.trim_matches('"').to_owned()).collect(),
            environment: Vec::new(),
            log: self.folder.path().with_extension("redis.log"),
            user: None,
        }));
        let deadline = crate::patience();
        // While it loads its data, it does not answer `PONG`.
        while !self.answers() {
            assert!(Instant::now() < deadline, "redis did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG"
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Deletes its files on disk.
    pub fn empty(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let file = self.folder.path().join("appendonlydir");
        std::fs::remove_dir_all(file).expect("its append-only file");
    }

    /// Its files on disk.
    pub fn files(&self) -> Vec<u8> {
        contents(self.folder.path(), &|_| true)
    }

    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("it is running").signal(name);
    }

    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it is running").id()
    }

    /// Makes it refuse all commands that need memory, or none.
    pub async fn refuse_writes(&self, refuse: bool) {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(u8::from(refuse));
        let _: () = set.query_async(&mut self.connect().await).await.expect("redis answers");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Takes connections by TLS as well, with this certificate. Returns their port.
    pub async fn offer_tls(&self, certificate: &Certificate) -> u16 {
        let port = free_port();
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("tls-cert-file").arg(certificate.certificate.display().to_string());
        set.arg("tls-key-file").arg(certificate.key.display().to_string());
        // Clients show none.
        set.arg("tls-auth-clients").arg("no").arg("tls-port").arg(port);
        let _: () = set.query_async(&mut self.connect().await).await.expect("redis offers TLS");
        port
    }

    /// How many clients are connected to this port.
    pub async fn clients_at(&self, port: u16) -> usize {
        let mut list = redis::cmd("CLIENT");
        list.arg("LIST");
        let list: String = list.query_async(&mut self.connect().await).await.expect("redis answers");
        list.lines().filter(|line| line.contains(&format!("laddr=127.0.0.1:{port} "))).count()
    }

    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        // The library's half second is too short for a long pipeline on a busy machine.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("redis answers")
    }
}
