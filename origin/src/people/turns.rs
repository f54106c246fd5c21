//! Turns at work that takes a processor for a while: fairly by client, however many wait.
//!
//! Clients take turns in rounds. One that asks a hundred times waits behind itself; another waits for one turn of each. Only
//! a bounded number waits; when all places are taken, whoever has most of them gives one up to a client that has fewer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Hands out a fixed number of turns at once.
pub struct Turns {
    state: Mutex<State>,
    /// How many may wait.
    places: usize,
}

struct State {
    free: usize,
    /// The clients that wait, in the order of their next turns.
    round: VecDeque<String>,
    waiting: HashMap<String, VecDeque<oneshot::Sender<Turn>>>,
}

/// A turn. It passes to the next who waits when it is dropped.
pub struct Turn(Option<Arc<Turns>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

impl Turns {
    pub fn new(at_once: usize, places: usize) -> Arc<Turns> {
        let state = State { free: at_once, round: VecDeque::new(), waiting: HashMap::new() };
        Arc::new(Turns { state: Mutex::new(state), places })
    }

    /// Asks for a turn, which comes through the channel; whoever drops the receiver no longer waits. `None`, or a channel that
    /// closes, if there is no place to wait.
    pub fn ask(self: &Arc<Turns>, client: &str) -> Option<oneshot::Receiver<Turn>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            // The receiver is here: this cannot fail, and would hand the turn back if it did.
            drop(state);
            drop(sender.send(Turn(Some(self.clone()))));
            return Some(receiver);
        }
        if state.waits() >= self.places && !state.make_place(client) {
            return None;
        }
        state.add(client, sender);
        Some(receiver)
    }

    /// Gives a turn that has ended to the next client of the round.
    fn pass_on(self: Arc<Turns>) {
        let mut state = self.lock();
        while let Some(next) = state.next() {
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // It waits no longer. Dropped under the lock, the turn would come back here.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.free += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waits(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    fn add(&mut self, client: &str, sender: oneshot::Sender<Turn>) {
        let own = self.waiting.entry(client.to_owned()).or_default();
        if own.is_empty() {
            self.round.push_back(client.to_owned());
        }
        own.push_back(sender);
    }

    /// The longest waiting request of the client whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let client = self.round.pop_front()?;
        let own = self.waiting.get_mut(&client)?;
        let next = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.round.push_back(client);
        }
        next
    }

    /// Forgets who waits no longer, or else turns the newest request of whoever has most of them away. Returns whether there
    /// is a place now: there is none for a client that would have most.
    fn make_place(&mut self, client: &str) -> bool {
        let before = self.waits();
        self.waiting.retain(|_, own| {
            own.retain(|sender| !sender.is_closed());
            !own.is_empty()
        });
        self.round.retain(|client| self.waiting.contains_key(client));
        if self.waits() < before {
            return true;
        }
        let own = self.waiting.get(client).map_or(0, VecDeque::len);
        match self.waiting.values_mut().max_by_key(|queue| queue.len()) {
            Some(longest) if longest.len() > own + 1 => longest.pop_back().is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks so many times for a client.
    fn ask(turns: &Arc<Turns>, client: &str, times: usize) -> Vec<oneshot::Receiver<Turn>> {
        (0..times).filter_map(|_| turns.ask(client)).collect()
    }

    /// Whether a turn has come; keeps it.
    fn has_come(waiting: &mut oneshot::Receiver<Turn>) -> Option<Turn> {
        waiting.try_recv().ok()
    }

    #[test]
    fn a_client_waits_for_one_turn_of_each_other() {
        let turns = Turns::new(1, 1_000);
        let mut running = turns.ask("first").unwrap();
        let mut turn = has_come(&mut running);
        assert!(turn.is_some());
        let mut storm: Vec<_> =
            (0..50).flat_map(|number| ask(&turns, &format!("storm {number}"), 10)).collect();
        let mut late = turns.ask("late").unwrap();
        let mut rounds = 0;
        let own = loop {
            // The turn ends, and passes on.
            drop(turn.take());
            rounds += 1;
            if let Some(own) = has_come(&mut late) {
                break own;
            }
            turn = storm.iter_mut().find_map(has_come);
            assert!(turn.is_some(), "the turn is lost");
        };
        assert_eq!(rounds, 51);
        drop(own);
        assert!(storm.iter_mut().any(|waiting| has_come(waiting).is_some()));
    }

    #[test]
    fn when_all_places_are_taken_whoever_has_most_gives_one_up() {
        let turns = Turns::new(1, 10);
        let _running = turns.ask("first").unwrap();
        let mut storm = ask(&turns, "storm", 20);
        assert_eq!(storm.len(), 10, "a storm is turned away rather than queued");
        let others: Vec<_> = (0..5).map(|number| turns.ask(&format!("other {number}")).unwrap()).collect();
        let turned_away = |waiting: &mut oneshot::Receiver<Turn>| {
            waiting.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
        };
        assert_eq!(storm.iter_mut().map(turned_away).filter(|away| *away).count(), 5);
        let more: Vec<_> = (5..20).filter_map(|number| turns.ask(&format!("other {number}"))).collect();
        assert_eq!(more.len(), 4, "all have one");
        // Those that give up leave their places.
        drop(others);
        assert!(turns.ask("another").is_some());
    }

    #[test]
    fn a_turn_is_never_lost() {
        let turns = Turns::new(2, 10);
        let first = turns.ask("a").unwrap();
        let second = turns.ask("a").unwrap();
        // Has come, and is never taken; has not come, and is not waited for.
        let third = turns.ask("b").unwrap();
        let mut fourth = turns.ask("c").unwrap();
        drop(third);
        drop(first);
        drop(second);
        assert!(has_come(&mut fourth).is_some());
        assert_eq!(turns.lock().free, 2);
        assert_eq!(turns.lock().waits(), 0);
    }
}
