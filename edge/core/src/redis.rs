//! Sends commands to Redis through a host: EVALSHA, EVAL where Redis does not know the script, a deadline, and a breaker. It
//! does not know the commands' meaning.

use std::borrow::Cow;
use std::cell::Cell;

use optimist_shared::scripts::{Call, Scalars, crosses_slots, is_about_the_call, is_unknown_script};

use crate::host::{Command, Host, RedisUnavailable, Reply, Value};

/// Redis gives this request no answer. The reason has been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRedis {
    /// It cannot be asked.
    Lost,
    /// It is too slow for this one.
    Late,
    /// It is a cluster, and has taken nothing of a script that has keys of two slots.
    CrossesSlots,
}

enum Failure {
    Unavailable(RedisUnavailable),
    /// An error of Redis's own.
    Refused(String),
}

/// A circuit breaker. It opens at the first failure, so that a lost Redis costs one deadline, then lets one request a second
/// try whether Redis is back. Slow failures space the attempts out: otherwise sequential requests would mostly wait.
#[derive(Debug)]
pub struct Breaker {
    /// Unix milliseconds until which no request tries; 0 when closed.
    open_until: Cell<u64>,
    /// Unix milliseconds until which nothing more is logged about late answers: there are many at once.
    quiet_until: Cell<u64>,
    /// A test has switched it off.
    never_opens: bool,
}

/// Milliseconds between two attempts at a failed Redis, unless twice the last attempt's duration is longer.
const RETRY_AFTER_MS: u64 = 1_000;

impl Breaker {
    pub fn new(never_opens: bool) -> Breaker {
        Breaker { open_until: Cell::new(0), quiet_until: Cell::new(0), never_opens }
    }

    /// Whether to try. When an attempt is due, the first request makes it, and the others stay away from Redis.
    fn admits(&self, now_ms: u64) -> bool {
        match self.open_until.get() {
            _ if self.never_opens => true,
            0 => true,
            until if now_ms < until => false,
            _ => {
                self.open_until.set(now_ms + RETRY_AFTER_MS);
                true
            }
        }
    }

    /// Records the failure of an attempt that began at `began_ms`.
    fn failed(&self, began_ms: u64, now_ms: u64) {
        self.open_until.set(now_ms + RETRY_AFTER_MS.max(2 * now_ms.saturating_sub(began_ms)));
    }

    fn succeeded(&self) {
        self.open_until.set(0);
    }

    /// Whether to log that an answer was late.
    fn says_late(&self, now_ms: u64) -> bool {
        let says = now_ms >= self.quiet_until.get();
        if says {
            self.quiet_until.set(now_ms + RETRY_AFTER_MS);
        }
        says
    }
}

/// One command of a trip: a script's call, or a plain command.
pub enum Ask<'a> {
    Script(Call<'a>),
    Plain(Vec<Cow<'a, [u8]>>),
}

impl Ask<'_> {
    fn command(&self, whole: bool) -> Command {
        match self {
            Ask::Script(call) => {
                let mut words = Vec::with_capacity(3 + call.keys.len() + call.arguments.len());
                call.words(whole, |word| words.push(word.to_vec()));
                Command(words)
            }
            Ask::Plain(words) => Command(words.iter().map(|word| word.to_vec()).collect()),
        }
    }
}

/// Sends commands in one trip, with a second one for scripts that Redis has forgotten. `hints` go along, and nobody reads
/// their replies.
pub async fn send<H: Host>(
    host: &H,
    breaker: &Breaker,
    deadline_ms: u32,
    spread: &str,
    asks: &[Ask<'_>],
    hints: Vec<Command>,
) -> Result<Vec<Vec<Value>>, NoRedis> {
    let began_ms = host.now_ms();
    if !breaker.admits(began_ms) {
        return Err(NoRedis::Lost);
    }
    match attempt(host, deadline_ms, spread, asks, hints).await {
        Ok(replies) => {
            breaker.succeeded();
            Ok(replies)
        }
        Err(Failure::Unavailable(RedisUnavailable::Late)) => {
            breaker.succeeded();
            if breaker.says_late(host.now_ms()) {
                host.log(&format!("redis is late: it takes more than {deadline_ms} ms"));
            }
            Err(NoRedis::Late)
        }
        Err(Failure::Unavailable(RedisUnavailable::Lost(why)) | Failure::Refused(why)) => {
            if is_about_the_call(&why) {
                breaker.succeeded();
            } else {
                breaker.failed(began_ms, host.now_ms());
            }
            let (no_redis, what) = match crosses_slots(&why) {
                true => (NoRedis::CrossesSlots, "redis is a cluster, and `redis_cluster` does not say so"),
                false => (NoRedis::Lost, "redis is unavailable"),
            };
            host.log(&format!("{what}: {why}"));
            Err(no_redis)
        }
    }
}

async fn attempt<H: Host>(
    host: &H,
    deadline_ms: u32,
    spread: &str,
    asks: &[Ask<'_>],
    hints: Vec<Command>,
) -> Result<Vec<Vec<Value>>, Failure> {
    let commands = asks.iter().map(|ask| ask.command(false)).chain(hints).collect();
    let mut replies = host.redis(spread, commands, deadline_ms).await.map_err(Failure::Unavailable)?;
    replies.truncate(asks.len());
    let unknown = |reply: &Reply| matches!(reply, Err(error) if is_unknown_script(error));
    let again: Vec<usize> = (0..replies.len()).filter(|index| unknown(&replies[*index])).collect();
    if !again.is_empty() {
        let commands: Vec<Command> =
            again.iter().filter_map(|index| asks.get(*index)).map(|ask| ask.command(true)).collect();
        let answers = host.redis(spread, commands, deadline_ms).await.map_err(Failure::Unavailable)?;
        for (index, answer) in again.into_iter().zip(answers) {
            replies[index] = answer;
        }
    }
    if replies.len() != asks.len() {
        return Err(Failure::Refused(format!("{} replies to {} commands", replies.len(), asks.len())));
    }
    // One error fails the whole trip; `send` judges whether Redis or the call is at fault.
    replies.into_iter().collect::<Result<_, _>>().map_err(Failure::Refused)
}

/// A reply, or one field of it, read from front to back. Each value is taken out.
pub struct Fields<'a>(std::slice::IterMut<'a, Value>);

impl Fields<'_> {
    pub fn new(reply: &mut [Value]) -> Fields<'_> {
        Fields(reply.iter_mut())
    }
}

impl Scalars for Fields<'_> {
    fn bytes(&mut self) -> Vec<u8> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => std::mem::take(bytes),
            Some(Value::Int(number)) => number.to_string().into_bytes(),
            Some(Value::Nil) | None => Vec::new(),
        }
    }

    fn int(&mut self) -> i64 {
        match self.0.next() {
            Some(Value::Int(number)) => *number,
            Some(Value::Bytes(bytes)) => {
                std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            Some(Value::Nil) | None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_lets_one_request_a_second_through() {
        let breaker = Breaker::new(false);
        assert!(breaker.admits(1_000) && breaker.admits(1_000));
        breaker.failed(900, 1_000);
        assert!(!breaker.admits(1_999));
        assert!(breaker.admits(2_000));
        assert!(!breaker.admits(2_000), "the attempt is under way");
        breaker.succeeded();
        assert!(breaker.admits(2_001) && breaker.admits(2_001));
        breaker.failed(3_000, 4_500);
        assert!(!breaker.admits(7_499), "that attempt took long");
        assert!(breaker.admits(7_500));
    }
}
