//! A TCP proxy between two parts of the system that imitates network faults: delay, throttling, cuts, silence, resets.
//! Its target can be changed, or be several addresses used in turn.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the proxy treats connections, both open and new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Open,
    /// Delays everything by this time, each way.
    Delayed(Duration),
    /// Passes at most this many bytes a second, per connection and direction.
    Throttled(u32),
    /// Ends connections as when a process ends.
    Cut,
    /// Keeps connections and accepts new ones, but passes nothing until another mode, which passes what waited.
    HalfOpen,
    /// Ends connections by a reset.
    Reset,
}

impl Mode {
    fn ends_connections(self) -> bool {
        matches!(self, Mode::Cut | Mode::Reset)
    }
}

pub struct Proxy {
    pub port: u16,
    targets: Arc<Mutex<Targets>>,
    mode: watch::Sender<Mode>,
    task: tokio::task::JoinHandle<()>,
}

/// The targets; each connection goes to the next one that can be reached.
#[derive(Default)]
struct Targets {
    addresses: Vec<String>,
    next: usize,
}

impl Proxy {
    /// `target` is `host:port`.
    pub async fn start(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let targets = Arc::new(Mutex::new(Targets { addresses: vec![target.to_owned()], next: 0 }));
        let (mode, seen) = watch::channel(Mode::Open);
        let shared = targets.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, shared.clone(), seen.clone()));
            }
        });
        Proxy { port, targets, mode, task }
    }

    /// `host:port` of this proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Ends every connection, and lets none through until healed.
    pub fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// Sends new connections to `target`, whatever the mode was. Open connections stay with their target.
    pub fn send_to(&self, target: &str) {
        self.send_to_any(vec![target.to_owned()]);
        self.set(Mode::Open);
    }

    /// Sends new connections to these in turn, skipping unreachable ones.
    pub fn send_to_any(&self, addresses: Vec<String>) {
        self.targets.lock().expect("the targets").addresses = addresses;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, targets: Arc<Mutex<Targets>>, mut mode: watch::Receiver<Mode>) {
    // During silence, the proxy does not even connect to the other side.
    let Ok(now) = mode.wait_for(|mode| *mode != Mode::HalfOpen).await.map(|mode| *mode) else { return };
    if now == Mode::Reset {
        reset(&client);
    }
    if now.ends_connections() {
        return;
    }
    let Some(mut server) = connect(&targets).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let end = {
        let mut mode = mode.clone();
        async move { mode.wait_for(|mode| mode.ends_connections()).await.map(|mode| *mode) }
    };
    let both = async {
        tokio::join!(pump(from_client, to_server, mode.clone()), pump(from_server, to_client, mode))
    };
    let ended = tokio::select! {
        _ = both => None,
        ended = end => ended.ok(),
    };
    if ended == Some(Mode::Reset) {
        reset(&client);
        reset(&server);
    }
}

/// Connects to the next target that can be reached.
async fn connect(targets: &Mutex<Targets>) -> Option<TcpStream> {
    let addresses = {
        let mut targets = targets.lock().expect("the targets");
        targets.next = targets.next.wrapping_add(1);
        let mut addresses = targets.addresses.clone();
        let first = targets.next % addresses.len().max(1);
        addresses.rotate_left(first);
        addresses
    };
    for address in addresses {
        if let Ok(server) = TcpStream::connect(address).await {
            return Some(server);
        }
    }
    None
}

/// Passes on the bytes of one direction, and their end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if pass(&buffer[..length], &mut to, &mut mode).await.is_none() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// `None` once nothing more can be passed.
async fn pass(mut bytes: &[u8], to: &mut WriteHalf<'_>, mode: &mut watch::Receiver<Mode>) -> Option<()> {
    /// How often a throttled connection passes a piece.
    const TICK: Duration = Duration::from_millis(20);
    while !bytes.is_empty() {
        let now = *mode.wait_for(|mode| *mode != Mode::HalfOpen).await.ok()?;
        let length = match now {
            Mode::Delayed(by) => {
                tokio::time::sleep(by).await;
                bytes.len()
            }
            Mode::Throttled(bytes_a_second) => {
                tokio::time::sleep(TICK).await;
                bytes.len().min((bytes_a_second / 50).max(1) as usize)
            }
            _ => bytes.len(),
        };
        // Silence may have begun meanwhile.
        if *mode.borrow() == Mode::HalfOpen {
            continue;
        }
        let (piece, rest) = bytes.split_at(length);
        to.write_all(piece).await.ok()?;
        bytes = rest;
    }
    Some(())
}

/// Makes the connection end by a reset when it is dropped.
fn reset(connection: &TcpStream) {
    let _ = connection.set_zero_linger();
}
