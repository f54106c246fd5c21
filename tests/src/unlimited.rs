//! Resets callers' limits before each request, for tests that are about something else.

use optimist_shared::limits::{LIMITS, Networks, Scope};

use crate::{Client, System};

pub struct Unlimited {
    redis: redis::Client,
    /// Reopened after an error, since Redis may be killed.
    connection: tokio::sync::Mutex<Option<redis::aio::MultiplexedConnection>>,
}

impl Unlimited {
    pub fn new(system: &System) -> Unlimited {
        let redis = redis::Client::open(system.redis.url()).expect("a URL");
        Unlimited { redis, connection: tokio::sync::Mutex::default() }
    }

    /// Deletes the charges of a user and of the common address. An unreachable Redis counts nothing.
    pub async fn forget(&self, who: &Client) {
        let mut forget = redis::cmd("DEL");
        // All callers come from there.
        let common = Networks::of("127.0.0.1");
        for limit in LIMITS {
            match limit.scope {
                Scope::User => drop(forget.arg(limit.key(&who.user))),
                Scope::Address | Scope::Site | Scope::Network => drop(forget.arg(common.key(limit))),
                Scope::Account | Scope::AccountAddress | Scope::Device | Scope::Family => {}
            }
        }
        let connected = self.connection.lock().await.clone();
        let connected = match connected {
            Some(connection) => Some(connection),
            None => self.redis.get_multiplexed_async_connection().await.ok(),
        };
        let Some(mut connection) = connected else { return };
        let forgotten: redis::RedisResult<()> = forget.query_async(&mut connection).await;
        *self.connection.lock().await = forgotten.is_ok().then_some(connection);
    }
}

impl Clone for Unlimited {
    /// The clone opens its own connection.
    fn clone(&self) -> Unlimited {
        Unlimited { redis: self.redis.clone(), connection: tokio::sync::Mutex::default() }
    }
}
