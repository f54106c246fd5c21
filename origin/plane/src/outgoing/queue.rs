//! The queue in Redis: a list of tickets for each channel, which every origin takes from. Without Redis, tickets stay in the
//! process that has them.
//!
//! A ticket that is lost, or doubled, does no harm: the rows say what is due.

use std::collections::VecDeque;

use ::redis::{Cmd, Value};
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;

use crate::ctx::Ctx;
use crate::postgres::left::Ticket;

/// Tickets that a list holds at most: the sweep finds what does not fit.
const MOST: usize = 10_000;
/// Tickets that a process keeps while Redis is away, of each channel.
const KEPT: usize = 1_000;
/// Tickets in one command.
const IN_ONE: usize = 1_000;

/// The tickets of one channel.
pub struct Queue {
    key: String,
    kept: VecDeque<Ticket>,
}

impl Queue {
    /// `index` is the channel's place among all. (A ticket names its channel: during a rollout, places may differ.)
    pub fn new(index: usize) -> Queue {
        let partition = Partition::all().nth(1 + index).unwrap_or(Partition::COMMON);
        Queue { key: Key::Outgoing.of_partition(partition), kept: VecDeque::new() }
    }

    /// Keeps a ticket here.
    fn keep(&mut self, ticket: Ticket) {
        if self.kept.len() < KEPT {
            self.kept.push_back(ticket);
        }
    }
}

/// Adds tickets to the queues at these places.
pub async fn add(ctx: &Ctx, queues: &mut [Queue], tickets: Vec<(usize, Ticket)>) {
    let mut commands = Vec::new();
    for (index, queue) in queues.iter().enumerate() {
        let texts: Vec<String> =
            tickets.iter().filter(|(at, _)| *at == index).map(|(_, ticket)| ticket.render()).collect();
        for texts in texts.chunks(IN_ONE) {
            let mut push = Cmd::new();
            push.arg("RPUSH").arg(&queue.key).arg(texts);
            let mut trim = Cmd::new();
            trim.arg("LTRIM").arg(&queue.key).arg(0).arg(MOST - 1);
            let mut expire = Cmd::new();
            expire.arg("EXPIRE").arg(&queue.key).arg(Key::Outgoing.row().kept_seconds().unwrap_or_default());
            commands.extend([push, trim, expire]);
        }
    }
    if !commands.is_empty() && ctx.redis.send(commands).await.is_err() {
        for (index, ticket) in tickets {
            queues[index].keep(ticket);
        }
    }
}

/// Takes up to so many tickets from each queue, and says which queues had fewer.
pub async fn take(ctx: &Ctx, queues: &mut [Queue], room: &[usize]) -> (Vec<Ticket>, Vec<bool>) {
    let mut taken = Vec::new();
    let mut commands = Vec::new();
    let mut asked = Vec::new();
    let mut emptied = vec![false; queues.len()];
    for (index, queue) in queues.iter_mut().enumerate() {
        let mut room = room[index];
        while room > 0
            && let Some(ticket) = queue.kept.pop_front()
        {
            taken.push(ticket);
            room -= 1;
        }
        if room > 0 {
            let mut pop = Cmd::new();
            pop.arg("LPOP").arg(&queue.key).arg(room);
            commands.push(pop);
            asked.push((index, room));
        }
    }
    if commands.is_empty() {
        return (taken, emptied);
    }
    let replies = ctx.redis.send(commands).await.unwrap_or_default();
    for (place, (index, room)) in asked.into_iter().enumerate() {
        let texts = match replies.get(place) {
            Some(Value::Array(texts)) => texts.as_slice(),
            _ => &[],
        };
        emptied[index] = texts.len() < room;
        taken.extend(texts.iter().filter_map(|text| match text {
            Value::BulkString(bytes) => Ticket::parse(std::str::from_utf8(bytes).ok()?),
            _ => None,
        }));
    }
    (taken, emptied)
}
