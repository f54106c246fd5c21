//! The head of a request, as `glue.js` writes it.

use std::net::IpAddr;

use optimist_edge_core::headers::combined;
use optimist_edge_core::host::Request;
use optimist_shared::session::Token;

/// Method, target and client's address, then names and values of headers in turn.
pub struct Head {
    parts: Vec<String>,
    address: Option<IpAddr>,
}

const HEADERS: usize = 3;

impl Head {
    /// `None` if the text is none of the glue's.
    pub fn parse(text: &str) -> Option<Head> {
        let parts: Vec<String> = serde_json::from_str(text).ok()?;
        let address = parts.get(2)?.parse().ok();
        Some(Head { parts, address })
    }

    /// The text by which an object is chosen: the id of the user or, without a session, the address of the client.
    pub fn spread(&self) -> String {
        let authorization = self.header("authorization");
        let token = authorization.as_deref().and_then(Token::from_authorization);
        token.map_or_else(|| self.parts[2].clone(), |token| token.user.to_string())
    }
}

impl Request for Head {
    fn method(&self) -> &str {
        &self.parts[0]
    }

    fn target(&self) -> &str {
        &self.parts[1]
    }

    fn header(&self, name: &str) -> Option<String> {
        let (headers, _) = self.parts[HEADERS..].as_chunks::<2>();
        let [_, value] = headers.iter().find(|[known, _]| known == name)?;
        combined(std::iter::once(value.as_bytes()))
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.address
    }
}
