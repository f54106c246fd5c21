//! The address of Redis, and the greeting of a connection to it. The host opens the connection.

use optimist_edge_core::host::Command;
use percent_encoding::percent_decode_str;

use crate::encode;

/// A Redis URL: `redis[s]://[[user]:password@]host[:port][/database]`. Only tests print it: it holds a password.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub struct Address {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    user: String,
    password: String,
    database: u32,
}

impl Address {
    pub fn parse(url: &str) -> Option<Address> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (address, 6379),
        };
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some(Address {
            tls,
            host: host.to_owned(),
            port,
            user: decode(user),
            password: decode(password),
            database: if database.is_empty() { 0 } else { database.parse().ok()? },
        })
    }

    /// The greeting's commands, encoded, and the number of their replies.
    pub fn greeting(&self) -> Option<(Vec<u8>, usize)> {
        let mut commands = Vec::new();
        let database = self.database.to_string();
        let mut push = |words: &[&str]| {
            commands.push(Command(words.iter().map(|word| word.as_bytes().to_vec()).collect()));
        };
        match (self.user.as_str(), self.password.as_str()) {
            ("", "") => {}
            ("", password) => push(&["AUTH", password]),
            (user, password) => push(&["AUTH", user, password]),
        }
        if self.database != 0 {
            push(&["SELECT", &database]);
        }
        (!commands.is_empty()).then(|| (encode(&commands), commands.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(host: &str, port: u16) -> Address {
        let (user, password) = (String::new(), String::new());
        Address { tls: false, host: host.to_owned(), port, user, password, database: 0 }
    }

    #[test]
    fn a_url_names_a_host_and_what_is_usual_besides() {
        assert_eq!(Address::parse("redis://cache"), Some(address("cache", 6379)));
        assert_eq!(Address::parse("redis://cache:7000/"), Some(address("cache", 7000)));
        assert_eq!(Address::parse("redis://[::1]"), Some(address("[::1]", 6379)));
        assert_eq!(Address::parse("redis://[::1]:7000"), Some(address("[::1]", 7000)));
        assert_eq!(Address::parse("rediss://cache"), Some(Address { tls: true, ..address("cache", 6379) }));
        let whole = Address {
            tls: true,
            user: "edge".to_owned(),
            password: "a@b:c/d".to_owned(),
            database: 3,
            ..address("cache.example", 7000)
        };
        assert_eq!(Address::parse("rediss://edge:a%40b%3Ac%2Fd@cache.example:7000/3"), Some(whole));
    }

    #[test]
    fn what_is_no_redis_url_is_refused() {
        for url in
            ["", "cache:6379", "http://cache", "redis://cache:port", "redis://cache:70000", "redis://cache/x"]
        {
            assert_eq!(Address::parse(url), None, "{url}");
        }
    }

    #[test]
    fn a_connection_greets_with_what_the_url_says() {
        let greeting = |url: &str| Address::parse(url).unwrap().greeting();
        assert_eq!(greeting("redis://cache"), None);
        let command = |words: &[&str]| Command(words.iter().map(|word| word.as_bytes().to_vec()).collect());
        let password = encode(&[command(&["AUTH", "secret"])]);
        assert_eq!(greeting("redis://:secret@cache"), Some((password, 1)));
        let whole = encode(&[command(&["AUTH", "edge", "secret"]), command(&["SELECT", "3"])]);
        assert_eq!(greeting("redis://edge:secret@cache/3"), Some((whole, 2)));
    }

    proptest! {
        #[test]
        fn every_password_can_be_written(password in "\\PC{1,20}", port: u16) {
            let escaped: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let parsed = Address::parse(&format!("redis://:{escaped}@cache:{port}"));
            prop_assert_eq!(parsed, Some(Address { password, ..address("cache", port) }));
        }

        #[test]
        fn whatever_comes_as_a_url_is_an_address_or_refused(url in "(rediss?://)?[a-z:@/\\[\\]%0-9]{0,30}|\\PC*") {
            if let Some(address) = Address::parse(&url) {
                let scheme = if address.tls { "rediss://" } else { "redis://" };
                prop_assert!(url.starts_with(scheme));
            }
        }
    }
}
