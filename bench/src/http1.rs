//! HTTP/1.1 as bytes: requests are built once and sent many times; answers are parsed just enough to check them.
//!
//! Not a general client: one request at a time per connection, whole bodies, no redirects, no TLS.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A request's bytes, body included.
#[derive(Clone, Debug)]
pub struct Request(pub Vec<u8>);

impl Request {
    /// `authority` is the server's `host:port`.
    pub fn new(method: &str, authority: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        Request(bytes)
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// A keep-alive connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `http://host:port`.
    pub fn open(url: &str) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(authority(url))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Connection { stream: BufReader::with_capacity(64 * 1024, stream) })
    }

    pub fn send(&mut self, request: &Request) -> std::io::Result<Answer> {
        self.stream.get_mut().write_all(&request.0)?;
        let head = request.0.starts_with(b"HEAD ");
        let status_line = self.line()?;
        let status = status_line.get(9..12).and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
        let mut headers = Vec::with_capacity(16);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if head || status == 204 || status == 304 {
            return Ok(answer);
        }
        answer.body = if answer.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
            self.chunks()?
        } else {
            let length = answer.header("content-length").parse().map_err(|_| malformed())?;
            self.exactly(length)?
        };
        Ok(answer)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).map_err(|_| malformed())?;
            body.extend(self.exactly(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn malformed() -> std::io::Error {
    std::io::Error::other("an answer that is not HTTP/1.1")
}

/// The `host:port` of a URL.
pub fn authority(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}
