//! HTTP to addresses that clients have given: guarded, without redirects and proxies, with deadlines, and with bounds for each
//! host.
//!
//! A name is resolved here, every address that it has is checked, and only checked ones are connected to. Addresses in URLs go past
//! a resolver, so they are checked as well.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Notify;
use tower_service::Service;

use crate::outgoing::addresses::Allowed;
use crate::tls;

const CONNECT: Duration = Duration::from_secs(3);
/// A whole exchange: well within a claim.
const EXCHANGE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER: usize = 4 * 1024;
/// Requests to one host that are under way at once: a slow one holds no more of a channel's senders.
const PER_HOST: usize = 8;
/// Requests that wait for their turn at a host that answers quickly, and how long each does: with its exchange, and once more if it is
/// repeated, still within a claim.
const WAITING: usize = 160;
const PATIENCE: Duration = Duration::from_secs(8);
/// A host whose last exchange took longer is slow: nobody waits for it.
const QUICK: Duration = Duration::from_secs(1);
/// So many failures in a row, and a host rests.
const FAILURES: u32 = 5;
const REST: Duration = Duration::from_secs(10);
/// Hosts that are remembered. Beyond, those that nothing is under way to are forgotten.
const HOSTS: usize = 1_000;
/// How long a name may take when an address is given to us.
const RESOLVE: Duration = Duration::from_secs(1);

/// An answer: its body is cut after some bytes.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The URL leads where the origin does not go.
    Refused,
    /// Too much is under way to this host and waits for it, or it rests after failures: nothing was sent.
    Busy,
    /// It cannot be reached, or did not answer in time.
    Lost,
}

#[derive(Default)]
struct Host {
    under_way: usize,
    failures: u32,
    rests_until: Option<Instant>,
    is_slow: bool,
    waiting: usize,
    /// Notified when a request has ended.
    freed: Arc<Notify>,
}

type Hosts = Arc<Mutex<HashMap<String, Host>>>;

pub struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    allowed: Allowed,
    hosts: Hosts,
}

impl Http {
    pub fn new(allowed: Allowed) -> Result<Http, Box<dyn std::error::Error>> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver { allowed: allowed.clone() });
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client(None)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(PER_HOST)
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Ok(Http { client, allowed, hosts: Hosts::default() })
    }

    /// A URL that a client gives: `https`, without a password, to a host that is no private address. (`http` only to addresses that
    /// the operator allows.) The error is a reason for the field. A name that cannot be resolved is checked when it is used.
    pub async fn check(&self, url: &str) -> Result<Uri, &'static str> {
        let uri = self.parse(url)?;
        let host = host_of(&uri);
        if literal(&host).is_none() {
            let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host.as_str(), 443))).await;
            if let Ok(Ok(mut found)) = found
                && !found.all(|address| self.allowed.admits(address.ip()))
            {
                return Err("must lead to a public address");
            }
        }
        Ok(uri)
    }

    fn parse(&self, url: &str) -> Result<Uri, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
        let authority = uri.authority().ok_or("is not a whole URL")?;
        if authority.as_str().contains('@') {
            return Err("must hold no user or password");
        }
        let address = literal(&host_of(&uri));
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if address.is_some_and(|address| self.allowed.has(address)) => {}
            _ => return Err("must begin with `https://`"),
        }
        if address.is_some_and(|address| !self.allowed.admits(address)) {
            return Err("must lead to a public address");
        }
        Ok(uri)
    }

    /// Sends a request, and reads the beginning of its answer.
    pub async fn post(&self, url: &str, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, NoAnswer> {
        let uri = self.parse(url).map_err(|_| NoAnswer::Refused)?;
        let mut turn = Turn::wait(&self.hosts, &host_of(&uri)).await.ok_or(NoAnswer::Busy)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = axum::http::Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| refusal_in(&error))?;
            let (parts, body) = answer.into_parts();
            // A body that is too long, or breaks off, leaves what the status says.
            let body = Limited::new(body, ANSWER).collect().await.map(|body| body.to_bytes());
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.unwrap_or_default() })
        };
        let outcome = tokio::time::timeout(EXCHANGE, exchange).await.unwrap_or(Err(NoAnswer::Lost));
        turn.is_lost = matches!(outcome, Err(NoAnswer::Lost));
        turn.is_done = true;
        outcome
    }
}

/// The host of a URL, without the brackets of IPv6.
fn host_of(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

/// Whether the resolver refused, or something else went wrong.
fn refusal_in(error: &(dyn std::error::Error + 'static)) -> NoAnswer {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<NotAdmitted>() {
            return NoAnswer::Refused;
        }
        cause = error.source();
    }
    NoAnswer::Lost
}

/// A request under way to a host.
struct Turn {
    hosts: Hosts,
    host: String,
    began: Instant,
    is_done: bool,
    is_lost: bool,
}

/// A request that waits for its turn.
struct Waiting<'a> {
    hosts: &'a Hosts,
    host: &'a str,
    freed: Arc<Notify>,
}

impl Turn {
    /// Waits while the host answers quickly. `None` if it has enough of them, or rests.
    async fn wait(hosts: &Hosts, host: &str) -> Option<Turn> {
        let mut waiting = match Turn::take(hosts, host) {
            Ok(turn) => return Some(turn),
            Err(full) => Waiting::begin(hosts, host, full)?,
        };
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            tokio::time::timeout_at(until, waiting.freed.notified()).await.ok()?;
            match Turn::take(hosts, host) {
                Ok(turn) => return Some(turn),
                Err(full) => waiting.freed = full?,
            }
        }
    }

    /// Otherwise what is notified when a turn ends; `None` if it is not worth waiting for.
    fn take(hosts: &Hosts, host: &str) -> Result<Turn, Option<Arc<Notify>>> {
        let mut all = hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= HOSTS && !all.contains_key(host) {
            all.retain(|_, host| host.under_way + host.waiting > 0);
        }
        let entry = all.entry(host.to_owned()).or_default();
        if entry.rests_until.is_some_and(|until| Instant::now() < until) {
            return Err(None);
        }
        // After its rest a host gets one request at a time, until one is answered.
        let most = if entry.failures >= FAILURES { 1 } else { PER_HOST };
        if entry.under_way >= most {
            let is_quick = entry.failures == 0 && !entry.is_slow;
            return Err(is_quick.then(|| entry.freed.clone()));
        }
        entry.under_way += 1;
        let (hosts, host) = (hosts.clone(), host.to_owned());
        Ok(Turn { hosts, host, began: Instant::now(), is_done: false, is_lost: false })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(host) = all.get_mut(&self.host) else { return };
        host.under_way = host.under_way.saturating_sub(1);
        host.is_slow = self.began.elapsed() > QUICK;
        if self.is_lost {
            host.failures = host.failures.saturating_add(1);
            host.rests_until = (host.failures >= FAILURES).then(|| Instant::now() + REST);
        } else if self.is_done {
            (host.failures, host.rests_until) = (0, None);
        }
        host.freed.notify_one();
    }
}

impl<'a> Waiting<'a> {
    fn begin(hosts: &'a Hosts, host: &'a str, freed: Option<Arc<Notify>>) -> Option<Waiting<'a>> {
        let freed = freed?;
        let mut all = hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.get_mut(host).filter(|entry| entry.waiting < WAITING)?;
        entry.waiting += 1;
        Some(Waiting { hosts, host, freed })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = all.get_mut(self.host) {
            host.waiting = host.waiting.saturating_sub(1);
            // One that gives up, or was told and found the host full, passes on what it was told.
            host.freed.notify_one();
        }
    }
}

/// Resolves names, and refuses one that has an address which the origin does not go to.
#[derive(Clone)]
struct Resolver {
    allowed: Allowed,
}

#[derive(Debug)]
struct NotAdmitted;

impl std::fmt::Display for NotAdmitted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the name leads to an address that is not public")
    }
}

impl std::error::Error for NotAdmitted {}

type Unresolved = Box<dyn std::error::Error + Send + Sync>;
type Found = Result<std::vec::IntoIter<SocketAddr>, Unresolved>;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Found> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().all(|address| allowed.admits(address.ip())) {
                Ok(found.into_iter())
            } else {
                Err(NotAdmitted.into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(allowed: &str) -> Http {
        Http::new(Allowed::parse(allowed).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_url_is_whole_encrypted_and_public() {
        let http = http("");
        for url in ["https://1.1.1.1/a?b=c", "https://[2606:4700::1111]:8443/"] {
            assert!(http.check(url).await.is_ok(), "{url}");
        }
        let refused = [
            "http://1.1.1.1/",
            "ftp://1.1.1.1/",
            "1.1.1.1",
            "/path",
            "https://user:word@1.1.1.1/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://169.254.169.254/latest",
            "https://localhost/",
            "https://LOCALHOST:8080/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "http://127.0.0.1/",
        ];
        for url in refused {
            assert!(http.check(url).await.is_err(), "{url}");
        }
    }

    /// The check at the time of sending is its own: a name may lead elsewhere by then.
    #[tokio::test]
    async fn sending_checks_names_and_addresses_again() {
        let http = http("");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]"] {
            let outcome = http.post(&format!("https://{host}:{port}/"), HeaderMap::new(), Vec::new()).await;
            let refused = outcome.err();
            // Some names are none for TLS, which comes first.
            assert!(
                refused == Some(NoAnswer::Refused) || host.starts_with(['1', '2']),
                "{host}: {refused:?}"
            );
            assert!(listener.accept().is_err(), "{host} was connected to");
        }
    }

    #[tokio::test]
    async fn a_host_that_fails_rests_and_others_do_not() {
        let http = http("127.0.0.0/8");
        for _ in 0..FAILURES {
            let lost = http.post("http://127.0.0.1:1/", HeaderMap::new(), Vec::new()).await.err();
            assert_eq!(lost, Some(NoAnswer::Lost));
        }
        let busy = http.post("http://127.0.0.1:1/", HeaderMap::new(), Vec::new()).await.err();
        assert_eq!(busy, Some(NoAnswer::Busy));
        let other = http.post("http://127.0.0.2:1/", HeaderMap::new(), Vec::new()).await.err();
        assert_eq!(other, Some(NoAnswer::Lost));
    }

    #[tokio::test]
    async fn a_host_takes_so_many_at_once_and_quick_ones_are_waited_for() {
        let hosts = Hosts::default();
        let take = |host: &str| Turn::take(&hosts, host);
        let mut turns: Vec<_> = (0..PER_HOST).map_while(|_| take("a").ok()).collect();
        assert_eq!(turns.len(), PER_HOST);
        assert!(take("a").is_err() && take("b").is_ok());
        let waiting = tokio::spawn({
            let hosts = hosts.clone();
            async move { Turn::wait(&hosts, "a").await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        turns.truncate(PER_HOST - 1);
        let turn = waiting.await.unwrap().expect("a turn has ended");
        turns.push(turn);
        // One that takes long is not waited for.
        turns[0].began = Instant::now().checked_sub(2 * QUICK).unwrap();
        turns.swap_remove(0);
        turns.push(take("a").expect("room"));
        assert!(matches!(take("a"), Err(None)), "it is slow");
        drop(turns);
        assert!(take("a").is_ok());
        assert_eq!(hosts.lock().unwrap()["a"].waiting, 0);
    }
}
