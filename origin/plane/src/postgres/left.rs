//! What transactions that were committed a moment ago leave to do: deliveries on their way to the queue, and states of which
//! subscribers are woken.
//!
//! All of it is lost with the process. The sweep finds the deliveries' rows, and states are sent whole after each connect.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use optimist_shared::ids::{Uuid, parse_id};
use tokio::sync::Notify;
use tokio_postgres::Row;

/// Beyond so many, the sweep finds the rest.
const MOST: usize = 20_000;

/// Names a row of `deliveries`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub channel: String,
    pub user: Uuid,
    pub subject: Uuid,
    pub target: Uuid,
}

impl Ticket {
    /// From the columns channel, user_id, subject, target, in this order.
    pub fn from_row(row: &Row) -> Ticket {
        Ticket { channel: row.get(0), user: row.get(1), subject: row.get(2), target: row.get(3) }
    }

    /// As the queue holds it.
    pub(crate) fn render(&self) -> String {
        let Ticket { channel, user, subject, target } = self;
        format!("{channel} {user} {subject} {target}")
    }

    pub(crate) fn parse(text: &str) -> Option<Ticket> {
        let mut parts = text.split(' ');
        let channel = parts.next()?.to_owned();
        let mut id = || parse_id(parts.next()?);
        let ticket = Ticket { channel, user: id()?, subject: id()?, target: id()? };
        parts.next().is_none().then_some(ticket)
    }
}

/// A state of a topic, by its row's name.
pub type Changed = (&'static str, Uuid);

/// Shared by a pool's transactions, the senders and whoever wakes subscribers.
#[derive(Clone, Default)]
pub struct Left(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tickets: Mutex<Vec<Ticket>>,
    added: Notify,
    changed: Mutex<BTreeSet<Changed>>,
    stirred: Notify,
}

impl Left {
    pub(crate) fn add(&self, tickets: Vec<Ticket>) {
        if tickets.is_empty() {
            return;
        }
        let mut waiting = self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST.saturating_sub(waiting.len());
        waiting.extend(tickets.into_iter().take(room));
        drop(waiting);
        self.0.added.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Ticket> {
        std::mem::take(&mut *self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change(&self, states: Vec<Changed>) {
        if states.is_empty() {
            return;
        }
        let mut changed = self.0.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST.saturating_sub(changed.len());
        changed.extend(states.into_iter().take(room));
        drop(changed);
        self.0.stirred.notify_one();
    }

    /// The states that have changed since they were taken: once there are some.
    pub(crate) async fn take_changed(&self) -> BTreeSet<Changed> {
        loop {
            let changed = std::mem::take(&mut *self.0.changed.lock().unwrap_or_else(PoisonError::into_inner));
            if !changed.is_empty() {
                return changed;
            }
            self.0.stirred.notified().await;
        }
    }

    pub(crate) async fn added(&self) {
        self.0.added.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_is_written() {
        let [user, subject, target] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];
        let ticket = Ticket { channel: "mail".to_owned(), user, subject, target };
        let text = ticket.render();
        assert_eq!(Ticket::parse(&text), Some(ticket));
        for wrong in ["", "mail", &text[1..text.len() - 1], &format!("{text} x")] {
            assert_eq!(Ticket::parse(wrong), None, "{wrong}");
        }
    }
}
