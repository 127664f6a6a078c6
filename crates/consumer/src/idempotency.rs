//! The record of handled events. SQS delivers a message at least once, and SuperOffice sends an event at least once.
//!
//! A record counts by its own end: the end of the lease of an event that is being handled, and the end of the retention
//! of a handled one. That it exists says nothing, because stores delete expired records late.

#[cfg(feature = "dynamodb")]
mod dynamodb;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

#[cfg(feature = "dynamodb")]
pub use dynamodb::DynamoDbStore;

use crate::HandlerError;

/// The time a handled event is remembered: more than the 14 days of a queue and those of its dead-letter queue.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The result of claiming an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller may handle the event.
    Granted,
    /// Another invocation has claimed the event, and its lease has not ended.
    InProgress,
    /// The event was handled before.
    Completed,
}

/// The period in which an invocation's claims exclude all others.
///
/// An invocation that crashes or times out leaves its claims behind, and they must end at the right moment:
///
/// ```text
/// function timeout < lease < visibility timeout of the queue
/// ```
///
/// - A lease that is shorter than the function timeout ends while its holder may still be working. Then two invocations
///   handle the same event at the same time.
/// - A lease that is longer than the visibility timeout still holds when SQS returns the message. That receive fails,
///   and it counts: with a lease of 900 s, a visibility timeout of 180 s and five receives, one crash sends a good event
///   to the dead-letter queue.
///
/// [`Lease::of_invocation`] lasts twice the function timeout. AWS recommends a visibility timeout of at least six times
/// the function timeout, plus the batching window of the event source mapping.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    start: SystemTime,
    end: SystemTime,
}

impl Lease {
    /// Returns the lease of an invocation that starts at `start` and that Lambda stops at `deadline`.
    pub fn of_invocation(start: SystemTime, deadline: SystemTime) -> Self {
        let timeout = deadline.duration_since(start).unwrap_or_default();
        Self { start, end: deadline + timeout }
    }
}

/// A record of handled events, shared by all invocations of the consumer.
///
/// With the feature `dynamodb`, `DynamoDbStore` keeps it in a table. If the handler writes to a database of its own, put
/// its writes and [`complete`](Self::complete) into one transaction there.
pub trait IdempotencyStore {
    /// Claims an event for the duration of the lease.
    fn claim(&self, key: &str, lease: Lease) -> impl Future<Output = Result<Claim, HandlerError>>;
    /// Records that the event was handled by the holder of the lease.
    fn complete(&self, key: &str, lease: Lease) -> impl Future<Output = Result<(), HandlerError>>;
    /// Gives up the claim to an event that was not handled. Another holder's claim stays.
    fn release(&self, key: &str, lease: Lease) -> impl Future<Output = Result<(), HandlerError>>;
}

/// A store for experiments. Its contents end with the execution environment, and other environments do not see them.
#[derive(Debug, Default)]
pub struct InMemoryStore {
    entries: Mutex<HashMap<String, Entry>>,
}

/// An event that counts until a point in time.
#[derive(Debug)]
struct Entry {
    is_completed: bool,
    until: SystemTime,
}

impl InMemoryStore {
    fn update<T>(&self, change: impl FnOnce(&mut HashMap<String, Entry>) -> T) -> T {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl IdempotencyStore for InMemoryStore {
    async fn claim(&self, key: &str, lease: Lease) -> Result<Claim, HandlerError> {
        Ok(self.update(|entries| match entries.get(key).filter(|entry| entry.until > lease.start) {
            Some(Entry { is_completed: true, .. }) => Claim::Completed,
            Some(Entry { is_completed: false, .. }) => Claim::InProgress,
            None => {
                entries.insert(key.to_owned(), Entry { is_completed: false, until: lease.end });
                Claim::Granted
            }
        }))
    }

    async fn complete(&self, key: &str, lease: Lease) -> Result<(), HandlerError> {
        let until = lease.start + RETENTION;
        self.update(|entries| entries.insert(key.to_owned(), Entry { is_completed: true, until }));
        Ok(())
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<(), HandlerError> {
        self.update(|entries| {
            if entries.get(key).is_some_and(|entry| !entry.is_completed && entry.until == lease.end) {
                entries.remove(key);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "contact.changed/1";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The lease of an invocation at `start`, with a function timeout of 30 s: until `start + 60`.
    fn lease(start: u64) -> Lease {
        Lease::of_invocation(at(start), at(start + 30))
    }

    fn claim(store: &InMemoryStore, lease: Lease) -> Claim {
        block_on(store.claim(KEY, lease))
    }

    fn block_on<T>(future: impl Future<Output = Result<T, HandlerError>>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future).unwrap()
    }

    #[test]
    fn lease_of_invocation_lasts_twice_the_function_timeout() {
        let lease = Lease::of_invocation(at(1000), at(1030));
        assert_eq!((lease.start, lease.end), (at(1000), at(1060)));
    }

    #[test]
    fn lease_with_past_deadline_ends_at_deadline() {
        assert_eq!(Lease::of_invocation(at(1000), at(999)).end, at(999));
    }

    #[test]
    fn claimed_event_is_in_progress_until_released() {
        let store = InMemoryStore::default();
        assert_eq!(claim(&store, lease(0)), Claim::Granted);
        assert_eq!(claim(&store, lease(1)), Claim::InProgress);
        block_on(store.release(KEY, lease(1)));
        assert_eq!(claim(&store, lease(2)), Claim::InProgress);
        block_on(store.release(KEY, lease(0)));
        assert_eq!(claim(&store, lease(2)), Claim::Granted);
    }

    #[test]
    fn claimed_event_is_granted_again_when_lease_ends() {
        let store = InMemoryStore::default();
        assert_eq!(claim(&store, lease(0)), Claim::Granted);
        assert_eq!(claim(&store, lease(59)), Claim::InProgress);
        assert_eq!(claim(&store, lease(60)), Claim::Granted);
        assert_eq!(claim(&store, lease(119)), Claim::InProgress);
    }

    #[test]
    fn completed_event_is_not_granted_again_for_30_days() {
        let store = InMemoryStore::default();
        assert_eq!(claim(&store, lease(0)), Claim::Granted);
        block_on(store.complete(KEY, lease(0)));
        block_on(store.release(KEY, lease(0)));
        assert_eq!(claim(&store, lease(1)), Claim::Completed);
        assert_eq!(claim(&store, lease(2_591_999)), Claim::Completed);
        assert_eq!(claim(&store, lease(2_592_000)), Claim::Granted);
    }

    #[test]
    fn claim_to_one_event_leaves_others_free() {
        let store = InMemoryStore::default();
        assert_eq!(claim(&store, lease(0)), Claim::Granted);
        assert_eq!(block_on(store.claim("contact.changed/2", lease(0))), Claim::Granted);
    }

    /// A queue and the consumer behind it; all times in seconds.
    #[derive(Clone, Copy)]
    struct Queue {
        visibility_timeout: u64,
        max_receive_count: u64,
    }

    /// Receives one message until an invocation handles it. The first `crashes` invocations that get the claim crash.
    /// The n-th invocation starts `latencies[n]` seconds after its receive (default 0). Returns the number of the
    /// successful receive, or `None` for the dead-letter queue.
    fn receive(queue: Queue, latencies: &[u64], mut crashes: u64, lease: impl Fn(u64) -> Lease) -> Option<u64> {
        let store = InMemoryStore::default();
        let latencies = latencies.iter().copied().chain(std::iter::repeat(0));
        for (number, latency) in (1..=queue.max_receive_count).zip(latencies) {
            let invocation = (number - 1) * queue.visibility_timeout + latency;
            match claim(&store, lease(invocation)) {
                Claim::Granted if crashes > 0 => crashes -= 1,
                Claim::Granted => return Some(number),
                Claim::InProgress => {}
                Claim::Completed => unreachable!("the message is deleted when its event is handled"),
            }
        }
        None
    }

    /// Every lease, visibility timeout and receive count in a grid of ten seconds: one crash costs one receive if the
    /// lease is at most as long as the visibility timeout, and otherwise every receive until the lease ends.
    #[test]
    fn crash_costs_one_receive_exactly_if_lease_fits_visibility_timeout() {
        for lease in (10..=900).step_by(10) {
            for visibility_timeout in (10..=300).step_by(10) {
                for max_receive_count in 2..=6 {
                    let queue = Queue { visibility_timeout, max_receive_count };
                    let handled_at = receive(queue, &[], 1, |start| Lease { start: at(start), end: at(start + lease) });
                    let returned = 1 + lease.div_ceil(visibility_timeout);
                    let expected = (returned <= max_receive_count).then_some(returned);
                    assert_eq!(handled_at, expected, "lease {lease}, visibility timeout {visibility_timeout}");
                    assert_eq!(handled_at == Some(2), lease <= visibility_timeout);
                }
            }
        }
    }

    #[test]
    fn lease_of_15_minutes_sends_event_to_dead_letter_queue_after_one_crash() {
        let queue = Queue { visibility_timeout: 180, max_receive_count: 5 };
        assert_eq!(receive(queue, &[], 1, |start| Lease { start: at(start), end: at(start + 900) }), None);
        assert_eq!(receive(queue, &[], 1, lease), Some(2));
    }

    proptest! {
        /// Any function timeout, with the recommended visibility timeout or a longer one: each crash costs one receive,
        /// and the event is handled as long as one receive remains.
        #[test]
        fn event_is_handled_at_first_receive_after_crashes(
            timeout in 1..=900_u64,
            longer in 0..1000_u64,
            window in 0..=300_u64,
            max_receive_count in 1..=10_u64,
            crashes in 0..=10_u64,
            latencies in proptest::collection::vec(0.0..=1.0, 10),
        ) {
            let queue = Queue { visibility_timeout: 6 * timeout + window + longer, max_receive_count };
            let longest = (window + 4 * timeout) as f64;
            let latencies: Vec<u64> = latencies.into_iter().map(|share: f64| (share * longest) as u64).collect();
            let handled_at = receive(queue, &latencies, crashes, |start| {
                Lease::of_invocation(at(start), at(start + timeout))
            });
            prop_assert_eq!(handled_at, (crashes < max_receive_count).then_some(crashes + 1));
        }

        /// While an invocation may run, no other invocation gets its event, whenever SQS delivers a duplicate.
        #[test]
        fn running_invocation_is_the_only_holder_of_its_claim(
            timeout in 1..=900_u64,
            start in 0..1_000_000_u64,
            elapsed in 0..=900_u64,
        ) {
            let store = InMemoryStore::default();
            let lease = |start| Lease::of_invocation(at(start), at(start + timeout));
            prop_assert_eq!(claim(&store, lease(start)), Claim::Granted);
            prop_assert_eq!(claim(&store, lease(start + elapsed.min(timeout))), Claim::InProgress);
        }
    }
}
