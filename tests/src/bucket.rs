//! A bucket on a real S3 server, `moto` of the pinned Python packages.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::Authority;
use crate::processes::{Launch, Process, free_port, program};
use crate::stores::folder;

/// Sends a request, and prints the answer's status and body. The tests' own client has no TLS; the server compares no signature.
const SEND: &str = "import sys, requests
method, url, authority = sys.argv[1:]
by = 'AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0'
body = sys.stdin.buffer.read()
answer = requests.request(method, url, headers={'authorization': by}, data=body, verify=authority or None)
sys.stdout.buffer.write(b'%d\\n' % answer.status_code + answer.content)";

pub struct Bucket {
    /// `host:port` of the server.
    pub address: String,
    /// The authority of its certificate, if it has one.
    authority: Option<PathBuf>,
    _process: Process,
    _folder: TempDir,
}

impl Bucket {
    /// Over TLS, with a certificate of an authority's.
    pub fn certified(authority: &Authority) -> Bucket {
        let made = authority.certify();
        let arguments = ["-c", &made.certificate.to_string_lossy(), "-k", &made.key.to_string_lossy()];
        Bucket::start(Some(authority.file()), &arguments.map(str::to_owned))
    }

    pub fn plain() -> Bucket {
        Bucket::start(None, &[])
    }

    fn start(authority: Option<PathBuf>, tls: &[String]) -> Bucket {
        let (folder, port) = (folder(), free_port());
        let server = tool("moto_server");
        assert!(server.exists(), "{}: `cargo xtask test integration` installs it", server.display());
        let mut arguments = ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec();
        arguments.extend_from_slice(tls);
        let process = Process::start(&Launch {
            program: &server,
            arguments,
            environment: Vec::new(),
            log: folder.path().join("moto.log"),
            user: None,
        });
        let address = format!("127.0.0.1:{port}");
        let bucket = Bucket { address, authority, _process: process, _folder: folder };
        let deadline = crate::patience();
        loop {
            if let Some((status, _)) = bucket.try_send("PUT", "", &[]) {
                assert_eq!(status, "200", "a new bucket");
                return bucket;
            }
            assert!(Instant::now() < deadline, "the S3 server did not start");
        }
    }

    /// What an origin is told of it, at this `host:port`.
    pub fn settings(&self, address: &str) -> Vec<(String, String)> {
        [
            ("OPTIMIST_ARCHIVE_URL", "s3://months/of".to_owned()),
            ("AWS_ENDPOINT_URL", format!("{}://{address}", self.scheme())),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn scheme(&self) -> &'static str {
        if self.authority.is_some() { "https" } else { "http" }
    }

    fn try_send(&self, method: &str, rest: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
        let url = format!("{}://{}/months{rest}", self.scheme(), self.address);
        let authority = self.authority.clone().unwrap_or_default();
        let mut child = Command::new(tool("python"))
            .args(["-c", SEND, method, &url])
            .arg(authority)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python");
        child.stdin.take().expect("it is piped").write_all(body).expect("python reads it");
        let output = child.wait_with_output().expect("it ends");
        let end = output.stdout.iter().position(|byte| *byte == b'\n')?;
        let status = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
        output.status.success().then(|| (status, output.stdout[end + 1..].to_vec()))
    }

    #[track_caller]
    fn send(&self, method: &str, rest: &str, body: &[u8], expected: &str) -> Vec<u8> {
        let (status, body) = self.try_send(method, rest, body).expect("it answers");
        assert_eq!(status, expected, "{method} {rest}");
        body
    }

    #[track_caller]
    pub fn get(&self, name: &str) -> Vec<u8> {
        self.send("GET", &format!("/of/{name}"), &[], "200")
    }

    #[track_caller]
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.send("PUT", &format!("/of/{name}"), bytes, "200");
    }

    #[track_caller]
    pub fn delete(&self, name: &str) {
        self.send("DELETE", &format!("/of/{name}"), &[], "204");
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<String> {
        let listed = String::from_utf8(self.send("GET", "?list-type=2", &[], "200")).expect("XML");
        let keys = listed.split("<Key>of/").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(name, _)| name.to_owned()).collect()
    }
}

/// A program of the pinned Python packages.
fn tool(name: &str) -> PathBuf {
    program("OPTIMIST_PYTHON_TOOLS", "target/python").join("bin").join(name)
}

/// Stands before a bucket without TLS, and fails so many connections before it passes any on: their first request is answered with 500,
/// or with the beginning of a body that does not go on.
pub struct Failing {
    pub address: String,
    pub left: Arc<AtomicU32>,
    pub stalls: Arc<AtomicBool>,
}

impl Failing {
    pub async fn before(bucket: &Bucket) -> Failing {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let left = Arc::new(AtomicU32::new(0));
        let stalls = Arc::new(AtomicBool::new(false));
        let (target, shared, how) = (bucket.address.clone(), left.clone(), stalls.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target.clone(), shared.clone(), how.clone()));
            }
        });
        Failing { address, left, stalls }
    }
}

async fn serve(mut client: TcpStream, target: String, left: Arc<AtomicU32>, stalls: Arc<AtomicBool>) {
    const BEGINNING: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nlast-modified: Mon, 02 Mar 2026 10:00:00 GMT\r\n\r\n{";
    const FAILURE: &[u8] =
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    if fails {
        let _ = client.read(&mut [0; 8_192]).await;
        let does_stall = stalls.load(Ordering::Relaxed);
        let _ = client.write_all(if does_stall { BEGINNING } else { FAILURE }).await;
        if does_stall {
            let _ = client.read(&mut [0; 8_192]).await; // Until the client has gone.
        }
    } else if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
