//! A TCP proxy between two parts of the system: it can be cut and healed, and sent elsewhere.

use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub port: u16,
    /// Where connections go; `None` while cut.
    target: Arc<Mutex<Option<String>>>,
    /// Changed to end every connection.
    generation: watch::Sender<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// `target` as `host:port`.
    pub async fn start(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let target = Arc::new(Mutex::new(Some(target.to_owned())));
        let (generation, ends) = watch::channel(0);
        let shared = target.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = shared.lock().expect("the target").clone();
                let mut ends = ends.clone();
                ends.mark_unchanged();
                if let Some(target) = target {
                    tokio::spawn(async move {
                        tokio::select! {
                            () = relay(client, &target) => {}
                            _ = ends.changed() => {}
                        }
                    });
                }
            }
        });
        Proxy { port, target, generation, task }
    }

    /// Ends every connection, and lets none through until healed.
    pub fn cut(&self) {
        *self.target.lock().expect("the target") = None;
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Sends connections to `target` from now on. Those that are open stay where they are.
    pub fn send_to(&self, target: &str) {
        *self.target.lock().expect("the target") = Some(target.to_owned());
    }
}

async fn relay(mut client: TcpStream, target: &str) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // However a connection ends, both ends see it.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
