//! When a batch of posts begins, and which posts it takes. State only: [`super::posting`] runs the batches.
//!
//! One batch at a time makes the largest batches, and a batch costs Postgres nearly the same whatever its size. A second runs
//! only beside one that is slow, with posts to other circles: a batch that waits for somebody holds up no other circle.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use optimist_shared::ids::Uuid;

/// Batches that one process has under way at a time.
const LANES: usize = 2;
/// Most posts of a batch: it locks its circles until it commits.
const BATCH: usize = 64;
/// How long a batch may take until the next need not wait for it: several times as long as most take.
pub const SLOW: Duration = Duration::from_millis(25);

/// Posts that wait, in the order in which they came, and the batches under way.
pub struct Lanes<T> {
    waiting: VecDeque<(Uuid, T)>,
    running: Vec<Running>,
    begun: u64,
}

struct Running {
    batch: u64,
    since: Instant,
    circles: BTreeSet<Uuid>,
}

/// A batch that has begun: its number, and its posts.
pub type Batch<T> = (u64, Vec<T>);

impl<T> Default for Lanes<T> {
    fn default() -> Lanes<T> {
        Lanes { waiting: VecDeque::new(), running: Vec::new(), begun: 0 }
    }
}

impl<T> Lanes<T> {
    pub fn add(&mut self, circle: Uuid, post: T) {
        self.waiting.push_back((circle, post));
    }

    /// Begins a batch, if every batch under way is slow and a post to none of their circles waits. All posts to a circle keep
    /// their order, since two batches would get in each other's way under the circle's lock.
    pub fn begin(&mut self, now: Instant) -> Option<Batch<T>> {
        let is_slow = |running: &Running| now.duration_since(running.since) >= SLOW;
        if self.running.len() >= LANES || !self.running.iter().all(is_slow) {
            return None;
        }
        let (mut posts, mut circles) = (Vec::new(), BTreeSet::new());
        let mut left = VecDeque::new();
        for (circle, post) in self.waiting.drain(..) {
            let is_under_way = self.running.iter().any(|running| running.circles.contains(&circle));
            if posts.len() < BATCH && !is_under_way {
                circles.insert(circle);
                posts.push(post);
            } else {
                left.push_back((circle, post));
            }
        }
        self.waiting = left;
        if posts.is_empty() {
            return None;
        }
        self.begun += 1;
        self.running.push(Running { batch: self.begun, since: now, circles });
        Some((self.begun, posts))
    }

    pub fn end(&mut self, batch: u64) {
        self.running.retain(|running| running.batch != batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds posts, each to a circle, numbered from `first`.
    fn add(lanes: &mut Lanes<usize>, first: usize, circles: &[u128]) {
        for (index, circle) in circles.iter().enumerate() {
            lanes.add(Uuid::from_u128(*circle), first + index);
        }
    }

    #[test]
    fn posts_that_arrive_during_a_batch_share_the_next_whatever_their_circles() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        add(&mut lanes, 0, &[1]);
        let (first, posts) = lanes.begin(now).unwrap();
        assert_eq!(posts, [0]);
        add(&mut lanes, 1, &[2, 1, 3, 2]);
        assert!(lanes.begin(now + SLOW / 2).is_none());
        lanes.end(first);
        assert_eq!(lanes.begin(now + SLOW / 2).unwrap().1, [1, 2, 3, 4]);
    }

    #[test]
    fn beside_a_slow_batch_one_more_runs_with_other_circles() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        add(&mut lanes, 0, &[1, 2]);
        let (slow, _) = lanes.begin(now).unwrap();
        add(&mut lanes, 2, &[2, 3, 1, 3]);
        let later = now + SLOW;
        let (beside, posts) = lanes.begin(later).unwrap();
        assert_eq!(posts, [3, 5]);
        add(&mut lanes, 6, &[4]);
        assert!(lanes.begin(later).is_none(), "the second is not slow");
        assert!(lanes.begin(later + SLOW).is_none(), "there is no third");
        lanes.end(beside);
        assert_eq!(lanes.begin(later).unwrap().1, [6], "the first is slow still");
        lanes.end(slow);
        assert_eq!(lanes.begin(later + SLOW).unwrap().1, [2, 4], "in the order in which they came");
        assert!(lanes.begin(later + SLOW).is_none());
    }

    #[test]
    fn a_batch_is_no_larger_than_its_transaction_may_be() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        add(&mut lanes, 0, &[1; BATCH + 1]);
        let (first, posts) = lanes.begin(now).unwrap();
        assert_eq!(posts.len(), BATCH);
        lanes.end(first);
        assert_eq!(lanes.begin(now).unwrap().1, [BATCH]);
    }
}
