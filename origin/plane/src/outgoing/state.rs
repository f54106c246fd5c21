//! What the senders of a process share.

use tokio::sync::{Notify, Semaphore};

use crate::config::Config;
use crate::outgoing::http::Http;
use crate::outgoing::mail::Mail;

pub struct Outgoing {
    pub http: Http,
    pub mail: Mail,
    /// Senders that use Postgres at once: requests need the other connections.
    pub(super) connections: Semaphore,
    /// Notified when a sender is done.
    pub(super) freed: Notify,
}

impl Outgoing {
    pub fn new(config: &Config) -> Result<Outgoing, Box<dyn std::error::Error>> {
        Ok(Outgoing {
            http: Http::new(config.outgoing.allowed.clone())?,
            mail: Mail::new(config.outgoing.mail.as_ref())?,
            connections: Semaphore::new((config.database_pool / 4).max(1)),
            freed: Notify::new(),
        })
    }
}
