//! The senders: each origin takes tickets from the queues, as many of each channel as it may send at once, and sends what it can
//! claim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use optimist_shared::ids::Uuid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ctx::Ctx;
use crate::domain::Channel;
use crate::error::Result;
use crate::hooks;
use crate::outgoing::delivery::Outcome;
use crate::outgoing::queue::{self, Queue};
use crate::outgoing::rows;
use crate::postgres::left::Ticket;

/// How often an idle origin looks into the queues: tickets of its own transactions do not wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it looks for rows that are due and have no ticket. Each origin draws its own, up to twice as long.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Seconds that a row is due before a sweep takes it: its ticket may be on its way.
const GRACE_SECONDS: f64 = 3.0;
/// The pause after a defect, or while Postgres is away.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

struct Lane {
    channel: &'static Channel,
    room: Arc<Semaphore>,
}

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    let channels = ctx.registry.domains.iter().flat_map(|domain| domain.channels);
    let lanes: Vec<Lane> =
        channels.map(|channel| Lane { channel, room: Arc::new(Semaphore::new(channel.at_once)) }).collect();
    if lanes.is_empty() {
        return;
    }
    let mut queues: Vec<Queue> = (0..lanes.len()).map(Queue::new).collect();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut swept = Instant::now();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = ctx.db.left.added() => {}
            () = ctx.outgoing.freed.notified() => {}
        }
        let left = placed(&lanes, ctx.db.left.take());
        queue::add(&ctx, &mut queues, left).await;
        let emptied = take(&ctx, &lanes, &mut queues).await;
        if swept.elapsed() > sweep_every().mul_f64(1.0 + share()) {
            swept = Instant::now();
            let idle: Vec<&str> = lanes
                .iter()
                .zip(&emptied)
                .filter(|(_, is_empty)| **is_empty)
                .map(|(lane, _)| lane.channel.name)
                .collect();
            // Without Postgres there is nothing to find.
            let due = rows::due(&ctx, &idle, grace()).await.unwrap_or_default();
            queue::add(&ctx, &mut queues, placed(&lanes, due)).await;
            take(&ctx, &lanes, &mut queues).await;
        }
    }
}

/// In tests, attempts follow each other at once.
fn grace() -> f64 {
    if hooks::disabled("pauses") { 0.2 } else { GRACE_SECONDS }
}

fn sweep_every() -> Duration {
    if hooks::disabled("pauses") { Duration::from_millis(200) } else { SWEEP_EVERY }
}

/// A number from 0 to 1 that differs between processes and times.
fn share() -> f64 {
    f64::from(Uuid::now_v7().as_u64_pair().1 as u16) / f64::from(u16::MAX)
}

/// The places of tickets' channels. A ticket of a channel that this origin does not know is left to the sweep of another.
fn placed(lanes: &[Lane], tickets: Vec<Ticket>) -> Vec<(usize, Ticket)> {
    let place = |ticket: &Ticket| lanes.iter().position(|lane| lane.channel.name == ticket.channel);
    tickets.into_iter().filter_map(|ticket| Some((place(&ticket)?, ticket))).collect()
}

/// Begins to send what there is room for. Returns which queues had no more.
async fn take(ctx: &Ctx, lanes: &[Lane], queues: &mut [Queue]) -> Vec<bool> {
    let room: Vec<usize> = lanes.iter().map(|lane| lane.room.available_permits()).collect();
    let (tickets, emptied) = queue::take(ctx, queues, &room).await;
    for (place, ticket) in placed(lanes, tickets) {
        let Lane { channel, room } = &lanes[place];
        // A ticket that lay in another channel's queue, during a rollout, may find no room.
        if let Ok(permit) = room.clone().try_acquire_owned() {
            tokio::spawn(deliver(ctx.clone(), channel, ticket, permit));
        }
    }
    emptied
}

async fn deliver(ctx: Ctx, channel: &'static Channel, ticket: Ticket, permit: OwnedSemaphorePermit) {
    // What fails here is claimed, or due: it comes again.
    let _ = attempt(&ctx, channel, &ticket).await;
    drop(permit);
    ctx.outgoing.freed.notify_one();
}

async fn attempt(ctx: &Ctx, channel: &Channel, ticket: &Ticket) -> Result<()> {
    let Some(delivery) = rows::claim(ctx, ticket).await? else { return Ok(()) };
    hooks::step("outgoing.claimed").await;
    let began = Instant::now();
    let outcome = (channel.send)(ctx, &delivery).await;
    hooks::step("outgoing.sent").await;
    // Logged where it happened.
    let outcome = outcome.unwrap_or(Outcome::Again { reason: "internal", after: Some(AFTER_FAILURE) });
    let mark = delivery.mark(&outcome, Utc::now(), share());
    metrics::counter!("optimist_deliveries_total", "channel" => channel.name, "outcome" => label(&outcome, mark.state))
        .increment(1);
    metrics::histogram!("optimist_delivery_seconds", "channel" => channel.name)
        .record(began.elapsed().as_secs_f64());
    if outcome == Outcome::Sent {
        let age = (Utc::now() - delivery.created_at).to_std().unwrap_or_default();
        metrics::histogram!("optimist_delivery_age_seconds", "channel" => channel.name)
            .record(age.as_secs_f64());
    }
    rows::mark(ctx, &delivery, mark).await
}

fn label(outcome: &Outcome, state: &'static str) -> &'static str {
    match outcome {
        Outcome::Later(_) => "later",
        Outcome::Again { .. } if state == "queued" => "again",
        _ => state,
    }
}
