//! Private Postgres clusters and Redis servers, on free ports, in their own folders.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::authority::Certificate;
use crate::disk::Disk;
use crate::processes::{Launch, Process, free_port, program};

pub use crate::redis_server::Redis;

/// A Postgres cluster. Unless it is `durable`, it survives its own death, but not the machine's.
pub struct Postgres {
    /// Must be dropped before the folder over which it is mounted.
    pub disk: Option<Disk>,
    folder: TempDir,
    pub port: u16,
    durable: bool,
    process: Option<Process>,
    /// Set once there is a migrated database, of which others are copies.
    migrated: OnceLock<()>,
    /// The servers of its shards: see [`has_shards`].
    pub workers: Vec<Postgres>,
}

/// The migrated database, of which others are copies.
const MIGRATED: &str = "migrated";

/// The workers of a Citus cluster.
const WORKERS: usize = 2;

/// A server's settings in a Citus cluster. The first ends transactions that a worker's death has left prepared, soon.
const CITUS: [&str; 7] = [
    "citus.recover_2pc_interval=1s",
    "shared_preload_libraries=citus",
    "citus.shard_count=4",
    "citus.node_conninfo=sslmode=disable",
    "ssl=off",
    "max_prepared_transactions=200",
    "max_worker_processes=1000",
];

/// Citus's daemon has a connection to each database, and a database with connections cannot be copied.
const DISCONNECT: &str =
    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = 'migrated'";

/// Whether people's own tables are on shards. `OPTIMIST_CITUS_BIN_DIR` is the folder of the programs of a Postgres that has Citus:
/// then each cluster is a coordinator with two workers.
pub fn has_shards() -> bool {
    std::env::var_os("OPTIMIST_CITUS_BIN_DIR").is_some()
}

/// One cluster for all tests that do not harm it.
pub static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Postgres {
    pub fn start() -> Postgres {
        Postgres::with_workers(false, false)
    }

    /// A cluster on its own disk, which can be filled.
    pub fn on_small_disk() -> Postgres {
        Postgres::with_workers(true, false)
    }

    /// Set up as in production, for measurements: commits reach the disk, and pages have room in memory.
    pub fn durable() -> Postgres {
        Postgres::with_workers(false, true)
    }

    fn create(small_disk: bool, durable: bool) -> Postgres {
        let folder = folder();
        let disk = small_disk.then(|| Disk::mount(folder.path()));
        let data = folder.path().join("data").display().to_string();
        let options =
            ["-D", &data, "-U", "owner", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"];
        let mut command = as_unprivileged(&folder, &binaries().join("initdb"));
        let status = command.args(options).stdout(std::process::Stdio::null()).status();
        assert!(status.expect("initdb").success(), "initdb failed");
        let (process, migrated, workers) = (None, OnceLock::new(), Vec::new());
        let mut postgres = Postgres { disk, folder, port: free_port(), durable, process, migrated, workers };
        postgres.launch();
        postgres.sql("postgres", "create role serve login");
        postgres
    }

    /// The same, with its workers if people's own tables are to be on shards.
    fn with_workers(small_disk: bool, durable: bool) -> Postgres {
        let mut postgres = Postgres::create(small_disk, durable);
        let workers = if has_shards() { WORKERS } else { 0 };
        postgres.workers = (0..workers).map(|_| Postgres::create(false, durable)).collect();
        postgres
    }

    /// A streaming replica of this cluster.
    pub fn replica(&self) -> Postgres {
        let folder = folder();
        let data = folder.path().join("data").display().to_string();
        let program = binaries().join("pg_basebackup");
        let mut command = as_unprivileged(&folder, &program);
        command.args(["-D", &data, "-R", "--checkpoint=fast", "-h", "127.0.0.1", "-U", "owner"]);
        let status = command.args(["-p", &self.port.to_string()]).status();
        assert!(status.expect("pg_basebackup").success(), "pg_basebackup failed");
        let mut replica = Postgres {
            disk: None,
            folder,
            port: free_port(),
            durable: self.durable,
            process: None,
            migrated: OnceLock::new(),
            workers: Vec::new(),
        };
        replica.launch();
        replica
    }

    /// Starts the server on its data, and waits until it answers.
    pub fn launch(&mut self) {
        let text = |path: &Path| path.display().to_string();
        let folder = self.folder.path();
        // A killed server must lose nothing; no test kills the machine.
        let (fsync, buffers) = if self.durable { ("on", "512MB") } else { ("off", "64MB") };
        let mut arguments = vec![
            ("-D", text(&folder.join("data"))),
            ("-p", self.port.to_string()),
            ("-k", text(folder)),
            ("-h", "127.0.0.1".to_owned()),
            ("-c", "max_connections=300".to_owned()),
            ("-c", format!("fsync={fsync}")),
            ("-c", format!("shared_buffers={buffers}")),
            ("-c", if self.disk.is_some() { "max_wal_size=64MB" } else { "max_wal_size=1GB" }.to_owned()),
        ];
        if has_shards() {
            arguments.extend(CITUS.iter().map(|setting| ("-c", (*setting).to_owned())));
        }
        self.process = Some(Process::start(&Launch {
            program: &binaries().join("postgres"),
            arguments: arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
            environment: Vec::new(),
            log: folder.with_extension("postgres.log"),
            user: unprivileged(),
        }));
        let deadline = crate::patience();
        while !self.psql("postgres", "select 1").0 {
            assert!(Instant::now() < deadline, "postgres did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `kill -9` of the server and all its processes.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let children = children(&process);
            process.kill();
            // Without their parent they would end by themselves, but the test must not wait for that.
            signal_each(&children, "KILL");
        }
    }

    /// Stops the server, and starts it again as if so many transactions had been.
    pub fn skip_to_transaction(&mut self, transaction: u64) {
        let mut process = self.process.take().expect("it is running");
        process.signal("INT");
        while process.is_running() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let data = self.folder.path().join("data");
        // Where the outcomes of that transaction and its neighbours are: nobody has begun them.
        let segment = data.join(format!("pg_xact/{:04X}", transaction / (1 << 20)));
        let zeros = format!("head -c 262144 /dev/zero > {}", segment.display());
        let mut write = as_unprivileged(&self.folder, Path::new("sh"));
        assert!(write.args(["-c", &zeros]).status().expect("sh").success(), "{zeros}");
        let mut reset = as_unprivileged(&self.folder, &binaries().join("pg_resetwal"));
        let reset =
            reset.args(["-x", &transaction.to_string(), "-D"]).arg(&data).output().expect("pg_resetwal");
        assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
        self.launch();
    }

    /// Sends a signal by name to the server and all its processes.
    pub fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("it is running");
        process.signal(name);
        signal_each(&children(process), name);
    }

    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it is running").id()
    }

    /// Whether the server runs; it ends by itself if it cannot recover.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Creates a database; returns the URLs of the owner and of the serving role.
    pub fn database(&self) -> (String, String) {
        let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.create_database(&name);
        self.urls(&name)
    }

    fn create_database(&self, name: &str) {
        for server in self.servers() {
            server.sql("postgres", &format!("create database {name}"));
            if !self.workers.is_empty() {
                server.sql(name, "create extension citus");
            }
        }
        if !self.workers.is_empty() {
            self.sql(name, &format!("select citus_set_coordinator_host('127.0.0.1', {})", self.port));
        }
        for worker in &self.workers {
            self.sql(name, &format!("select citus_add_node('127.0.0.1', {})", worker.port));
        }
    }

    /// Itself and its workers.
    fn servers(&self) -> impl Iterator<Item = &Postgres> {
        std::iter::once(self).chain(&self.workers)
    }

    /// The same, with the schema: a copy of the first one, which `migrate` migrates, given its URLs.
    pub fn migrated_database(&self, migrate: impl FnOnce(&str, &str)) -> (String, String) {
        self.migrated.get_or_init(|| {
            self.create_database(MIGRATED);
            let (owner, serve) = self.urls(MIGRATED);
            migrate(&owner, &serve);
        });
        let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        // Citus's tables are in each database, and name the others' servers alone: copies of all make a cluster.
        for server in self.servers() {
            let copy = format!("create database {name} template {MIGRATED}");
            let deadline = crate::patience();
            while let (false, why) = server.psql("postgres", &copy) {
                assert!(!self.workers.is_empty() && Instant::now() < deadline, "{copy}: {why}");
                server.sql("postgres", DISCONNECT);
            }
        }
        self.urls(&name)
    }

    fn urls(&self, name: &str) -> (String, String) {
        let url = |role| format!("postgres://{role}@127.0.0.1:{}/{name}", self.port);
        (url("owner"), url("serve"))
    }

    /// Runs a statement as the owner.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let (ok, output) = self.psql(database, sql);
        assert!(ok, "{sql}: {output}");
        output
    }

    /// Takes connections by TLS as well, with this certificate.
    pub fn offer_tls(&self, certificate: &Certificate) {
        if let Some(user) = unprivileged() {
            let owned = Command::new("chown").arg(user).arg(&certificate.key).status().expect("chown");
            assert!(owned.success(), "cannot give a key to {user}");
        }
        for (name, file) in [("ssl_cert_file", &certificate.certificate), ("ssl_key_file", &certificate.key)]
        {
            self.sql("postgres", &format!("alter system set {name} = '{}'", file.display()));
        }
        self.sql("postgres", "alter system set ssl = on");
        self.sql("postgres", "select pg_reload_conf()");
        let deadline = crate::patience();
        while self.sql("postgres", "show ssl") != "on" {
            assert!(Instant::now() < deadline, "postgres offers no TLS");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Begins a transaction with a statement, and keeps it open until the session is dropped.
    pub fn transaction(&self, database: &str, sql: &str) -> Transaction {
        let mut session = Command::new(binaries().join("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "owner", "-d", database])
            .args(["-X", "-At", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql");
        let (mut input, output) = (session.stdin.take().expect("its input"), session.stdout.take());
        writeln!(input, "begin; {sql}; select 'begun';").expect("psql reads");
        let mut lines = BufReader::new(output.expect("its output")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line == "begun")), "{sql} failed");
        Transaction { session, _input: input }
    }

    /// A database in the format of `pg_dump`.
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let port = self.port.to_string();
        let output = Command::new(binaries().join("pg_dump"))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "owner", database])
            .output()
            .expect("pg_dump");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Its files on disk: tables, write-ahead log and its own log.
    pub fn files(&self) -> Vec<u8> {
        let log = std::fs::read(self.folder.path().with_extension("postgres.log")).unwrap_or_default();
        [contents(self.folder.path(), &|_| true), log].concat()
    }

    /// Runs a statement as the owner: whether it succeeded, and its result or error.
    pub fn psql(&self, database: &str, sql: &str) -> (bool, String) {
        let output = Command::new(binaries().join("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "owner", "-Atqc", sql, database])
            .output()
            .expect("psql");
        let text = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children(process: &Process) -> Vec<String> {
    let output = Command::new("pgrep").args(["-P", &process.id().to_string()]).output().expect("pgrep");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Some processes may be gone already.
fn signal_each(processes: &[String], name: &str) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name]).args(processes).stderr(std::process::Stdio::null());
    if !processes.is_empty() {
        let _ = kill.status();
    }
}

/// The bytes of all wanted files in a folder and its subfolders.
pub fn contents(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind of file");
        if kind.is_dir() {
            bytes.extend(contents(&path, is_wanted));
        } else if kind.is_file() && is_wanted(&path) {
            bytes.extend(std::fs::read(&path).unwrap_or_default());
        }
    }
    bytes
}

/// A folder with a path short enough for a socket, and open to other users.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("t").tempdir_in(&*FOLDERS).expect("a folder");
    open_to_all(folder.path());
    folder
}

/// The parent of this process's folders. Folders shared by all tests are never removed by this process: a later one
/// does that.
static FOLDERS: LazyLock<PathBuf> = LazyLock::new(|| {
    const PREFIX: &str = "optimist-tests-";
    for entry in std::fs::read_dir("/tmp").expect("/tmp").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // Another process may be removing it as well.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folders = Path::new("/tmp").join(format!("{PREFIX}{}", std::process::id()));
    std::fs::create_dir_all(&folders).expect("a folder");
    open_to_all(&folders);
    folders
});

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("its permissions");
}

/// Postgres refuses to run as root, so another user runs it.
pub(crate) fn unprivileged() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output().expect("id");
    (id.stdout == b"0\n").then_some("postgres")
}

/// A Postgres program, run as the user that may run it; the folder is given to that user.
fn as_unprivileged(folder: &TempDir, program: &Path) -> Command {
    let Some(user) = unprivileged() else { return Command::new(program) };
    let owned = Command::new("chown").arg(user).arg(folder.path()).status().expect("chown");
    assert!(owned.success(), "cannot give a folder to {user}");
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()])
        .arg(program);
    command
}

pub fn binaries() -> PathBuf {
    let named = ["OPTIMIST_CITUS_BIN_DIR", "OPTIMIST_POSTGRES_BIN_DIR"];
    if let Some(folder) = named.iter().find_map(std::env::var_os) {
        return PathBuf::from(folder);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Postgres is installed");
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max().expect("a version of Postgres");
    newest.join("bin")
}

/// The origin's program, built with test hooks.
pub fn origin_program() -> PathBuf {
    program("OPTIMIST_ORIGIN_BIN", "target/debug/optimist-origin")
}

/// A transaction that is rolled back when it is dropped.
pub struct Transaction {
    session: Child,
    _input: ChildStdin,
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}
