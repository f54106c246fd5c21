//! Turns at work that takes a processor for a while: fairly by network and by client, however many wait.
//!
//! Networks take turns in rounds, and so do the clients of each. One that asks a hundred times waits behind itself, and one
//! that has a hundred addresses of a network behind its network; another waits for one turn of each network. Only a bounded
//! number waits; when all places are taken, whoever has most of them gives one up to whoever has fewer.

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
    waiting: Round<Round<Line>>,
}

/// The requests of one client, the longest waiting first.
type Line = VecDeque<oneshot::Sender<Turn>>;

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
        Arc::new(Turns { state: Mutex::new(State { free: at_once, waiting: Round::default() }), places })
    }

    /// Asks for a turn for a client of a network. It comes through the channel; whoever drops the receiver no longer waits.
    /// `None`, or a channel that closes, if there is no place to wait.
    pub fn ask(self: &Arc<Turns>, network: &str, client: &str) -> Option<oneshot::Receiver<Turn>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            // The receiver is here: this cannot fail, and would hand the turn back if it did.
            drop(state);
            drop(sender.send(Turn(Some(self.clone()))));
            return Some(receiver);
        }
        let waiting = &mut state.waiting;
        if waiting.waits() >= self.places {
            waiting.forget_the_gone();
        }
        if waiting.waits() >= self.places && !waiting.make_place(network, client) {
            return None;
        }
        waiting.line(network).line(client).push_back(sender);
        Some(receiver)
    }

    /// Gives a turn that has ended to the next of the round.
    fn pass_on(self: Arc<Turns>) {
        let mut state = self.lock();
        while let Some(next) = state.waiting.next() {
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

/// What waits in a line, or in a round of lines.
trait Waiting: Default {
    fn waits(&self) -> usize;
    fn next(&mut self) -> Option<oneshot::Sender<Turn>>;
    fn forget_the_gone(&mut self);
    /// Turns the newest request away of whoever has most.
    fn turn_one_away(&mut self);
}

impl Waiting for Line {
    fn waits(&self) -> usize {
        self.len()
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.pop_front()
    }

    fn forget_the_gone(&mut self) {
        self.retain(|sender| !sender.is_closed());
    }

    fn turn_one_away(&mut self) {
        self.pop_back();
    }
}

/// Lines by name, in the order of their next turns. None is empty between two calls.
struct Round<L> {
    order: VecDeque<String>,
    lines: HashMap<String, L>,
}

impl<L> Default for Round<L> {
    fn default() -> Round<L> {
        Round { order: VecDeque::new(), lines: HashMap::new() }
    }
}

impl<L: Waiting> Round<L> {
    /// The line of this name; a new one comes last. The caller adds to it.
    fn line(&mut self, name: &str) -> &mut L {
        if !self.lines.contains_key(name) {
            self.order.push_back(name.to_owned());
        }
        self.lines.entry(name.to_owned()).or_default()
    }

    fn waits_of(&self, name: &str) -> usize {
        self.lines.get(name).map_or(0, L::waits)
    }

    fn longest(&mut self) -> Option<&mut L> {
        self.lines.values_mut().max_by_key(|line| line.waits())
    }

    fn drop_empty(&mut self) {
        self.lines.retain(|_, line| line.waits() > 0);
        self.order.retain(|name| self.lines.contains_key(name));
    }

    /// Turns one away from the longest line, if that is longer than this one's would be.
    fn turn_away_for(&mut self, name: &str) -> bool {
        let own = self.waits_of(name);
        let Some(longest) = self.longest().filter(|longest| longest.waits() > own + 1) else { return false };
        longest.turn_one_away();
        self.drop_empty();
        true
    }
}

impl<L: Waiting> Waiting for Round<L> {
    fn waits(&self) -> usize {
        self.lines.values().map(L::waits).sum()
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let name = self.order.pop_front()?;
        let line = self.lines.get_mut(&name)?;
        let next = line.next();
        if line.waits() == 0 {
            self.lines.remove(&name);
        } else {
            self.order.push_back(name);
        }
        next
    }

    fn forget_the_gone(&mut self) {
        self.lines.values_mut().for_each(L::forget_the_gone);
        self.drop_empty();
    }

    fn turn_one_away(&mut self) {
        if let Some(longest) = self.longest() {
            longest.turn_one_away();
        }
        self.drop_empty();
    }
}

impl Round<Round<Line>> {
    /// Makes a place for a client's request: another network gives one up or, if none has more, another client of its own.
    fn make_place(&mut self, network: &str, client: &str) -> bool {
        self.turn_away_for(network)
            || self.lines.get_mut(network).is_some_and(|clients| clients.turn_away_for(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks so many times for a client that is a network of its own.
    fn ask(turns: &Arc<Turns>, client: &str, times: usize) -> Vec<oneshot::Receiver<Turn>> {
        (0..times).filter_map(|_| turns.ask(client, client)).collect()
    }

    fn ask_once(turns: &Arc<Turns>, client: &str) -> Option<oneshot::Receiver<Turn>> {
        turns.ask(client, client)
    }

    fn is_turned_away(waiting: &mut oneshot::Receiver<Turn>) -> bool {
        waiting.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
    }

    /// Whether a turn has come; keeps it.
    fn has_come(waiting: &mut oneshot::Receiver<Turn>) -> Option<Turn> {
        waiting.try_recv().ok()
    }

    #[test]
    fn a_client_waits_for_one_turn_of_each_other() {
        let turns = Turns::new(1, 1_000);
        let mut running = ask_once(&turns, "first").unwrap();
        let mut turn = has_come(&mut running);
        assert!(turn.is_some());
        let mut storm: Vec<_> =
            (0..50).flat_map(|number| ask(&turns, &format!("storm {number}"), 10)).collect();
        let mut late = ask_once(&turns, "late").unwrap();
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
        let _running = ask_once(&turns, "first").unwrap();
        let mut storm = ask(&turns, "storm", 20);
        assert_eq!(storm.len(), 10, "a storm is turned away rather than queued");
        let others: Vec<_> =
            (0..5).map(|number| ask_once(&turns, &format!("other {number}")).unwrap()).collect();
        assert_eq!(storm.iter_mut().map(is_turned_away).filter(|away| *away).count(), 5);
        let more: Vec<_> =
            (5..20).filter_map(|number| ask_once(&turns, &format!("other {number}"))).collect();
        assert_eq!(more.len(), 4, "all have one");
        // Those that give up leave their places.
        drop(others);
        assert!(ask_once(&turns, "another").is_some());
    }

    #[test]
    fn a_turn_is_never_lost() {
        let turns = Turns::new(2, 10);
        let first = ask_once(&turns, "a").unwrap();
        let second = ask_once(&turns, "a").unwrap();
        // Has come, and is never taken; has not come, and is not waited for.
        let third = ask_once(&turns, "b").unwrap();
        let mut fourth = ask_once(&turns, "c").unwrap();
        drop(third);
        drop(first);
        drop(second);
        assert!(has_come(&mut fourth).is_some());
        assert_eq!(turns.lock().free, 2);
        assert_eq!(turns.lock().waiting.waits(), 0);
    }

    #[test]
    fn a_network_has_one_turn_in_a_round_however_many_addresses_it_has() {
        let turns = Turns::new(1, 100);
        let first = ask_once(&turns, "first").unwrap();
        let mut storm: Vec<_> =
            (0..100).filter_map(|number| turns.ask("storm", &format!("storm {number}"))).collect();
        let [mut one, mut other] = ["one", "other"].map(|client| turns.ask("home", client).unwrap());
        assert_eq!(storm.iter_mut().map(is_turned_away).filter(|away| *away).count(), 2);
        drop(first);
        let turn = storm.iter_mut().find_map(has_come).unwrap();
        drop(turn);
        let turn = has_come(&mut one).unwrap();
        drop(turn);
        drop(storm.iter_mut().find_map(has_come).unwrap());
        assert!(has_come(&mut other).is_some());
    }
}
