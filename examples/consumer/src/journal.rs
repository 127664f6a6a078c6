//! Which events are done. SQS delivers a message at least once, and so does whatever stands before it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lambda_runtime::Error;

/// What comes of wanting to handle an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is yours.
    Granted,
    /// Somebody works on it.
    Busy,
    /// It was handled before.
    Done,
}

/// Remembers events by a key, for everybody who takes messages from the queue.
///
/// Here goes the conditional write. In a DynamoDB table with the key `id`, [`Journal::claim`] is one `PutItem` of
/// `{id, state: "busy", until: now + lease}` on the condition
/// `attribute_not_exists(id) OR (#state = :busy AND #until < :now)`; when it fails, the old item
/// (`ReturnValuesOnConditionCheckFailure: ALL_OLD`) tells busy from done. [`Journal::done`] sets `state` to `done`, and
/// a time to live longer than the queue keeps a message. If the handler's own writes go to the same table, one
/// `TransactWriteItems` for both is better still.
pub(crate) trait Journal {
    /// Wants to handle an event.
    async fn claim(&self, key: &str) -> Result<Claim, Error>;
    /// The event is handled.
    async fn done(&self, key: &str) -> Result<(), Error>;
    /// The event is not handled, and the next who wants to may.
    async fn release(&self, key: &str) -> Result<(), Error>;
}

/// A journal for trying things out: it knows only what this execution environment has handled, as long as it lives.
pub(crate) struct InMemory {
    lease: Duration,
    states: Mutex<HashMap<String, State>>,
}

enum State {
    Busy { until: Instant },
    Done,
}

impl InMemory {
    /// A claim ends after `lease`: whoever had it may have died.
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, states: Mutex::default() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, State>) -> T) -> T {
        change(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Journal for InMemory {
    async fn claim(&self, key: &str) -> Result<Claim, Error> {
        let now = Instant::now();
        Ok(self.with(|states| match states.get(key) {
            Some(State::Done) => Claim::Done,
            Some(State::Busy { until }) if *until > now => Claim::Busy,
            _ => {
                states.insert(key.to_owned(), State::Busy { until: now + self.lease });
                Claim::Granted
            }
        }))
    }

    async fn done(&self, key: &str) -> Result<(), Error> {
        self.with(|states| states.insert(key.to_owned(), State::Done));
        Ok(())
    }

    async fn release(&self, key: &str) -> Result<(), Error> {
        self.with(|states| states.remove(key));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_claim_is_granted_once() {
        let journal = InMemory::new(Duration::from_secs(3600));
        assert_eq!(journal.claim("a").await.unwrap(), Claim::Granted);
        assert_eq!(journal.claim("a").await.unwrap(), Claim::Busy);
        assert_eq!(journal.claim("b").await.unwrap(), Claim::Granted);
        journal.release("a").await.unwrap();
        assert_eq!(journal.claim("a").await.unwrap(), Claim::Granted);
        journal.done("a").await.unwrap();
        assert_eq!(journal.claim("a").await.unwrap(), Claim::Done);
    }

    #[tokio::test]
    async fn a_claim_whose_holder_has_died_is_granted_again() {
        let journal = InMemory::new(Duration::ZERO);
        assert_eq!(journal.claim("a").await.unwrap(), Claim::Granted);
        assert_eq!(journal.claim("a").await.unwrap(), Claim::Granted);
        journal.done("a").await.unwrap();
        assert_eq!(journal.claim("a").await.unwrap(), Claim::Done);
    }
}
