//! The head of a request, as `glue.js` writes it.

use std::net::IpAddr;

use optimist_edge_core::headers::combined;
use optimist_edge_core::host::{Body, Request};

/// The request's id, method, target and client's address, then names and values of headers in turn.
pub struct Head {
    parts: Vec<String>,
    address: Option<IpAddr>,
    pub body: Option<Body>,
}

const HEADERS: usize = 4;

impl Head {
    /// `None` if the text is none of the glue's.
    pub fn parse(text: &str) -> Option<Head> {
        let parts: Vec<String> = serde_json::from_str(text).ok()?;
        let address = parts.get(3)?.parse().ok();
        Some(Head { parts, address, body: None })
    }
}

impl Request for Head {
    fn method(&self) -> &str {
        &self.parts[1]
    }

    fn target(&self) -> &str {
        &self.parts[2]
    }

    fn header(&self, name: &str) -> Option<String> {
        let (headers, _) = self.parts[HEADERS..].as_chunks::<2>();
        let [_, value] = headers.iter().find(|[known, _]| known == name)?;
        combined(std::iter::once(value.as_bytes()))
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.address
    }

    fn id(&self) -> Option<&str> {
        Some(&self.parts[0])
    }

    fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }
}
