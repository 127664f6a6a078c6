//! The time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A clock: the system's, or one that tests set.
#[derive(Clone, Debug)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at a time until it is moved.
    pub fn fixed(at: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(at.as_millisecond()))))
    }

    /// The current time, in whole milliseconds.
    pub fn now(&self) -> Timestamp {
        let milliseconds = match &self.0 {
            Some(fixed) => fixed.load(Ordering::SeqCst),
            None => Timestamp::now().as_millisecond(),
        };
        Timestamp::from_millisecond(milliseconds).expect("a time of this century")
    }

    /// Moves a fixed clock forward.
    pub fn advance(&self, milliseconds: i64) {
        let fixed = self.0.as_ref().expect("only a fixed clock can be moved");
        fixed.fetch_add(milliseconds, Ordering::SeqCst);
    }
}
