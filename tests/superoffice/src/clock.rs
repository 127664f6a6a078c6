//! The time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A clock: the system's, or one that tests set.
#[derive(Clone, Debug)]
pub struct Clock {
    fixed: Option<Arc<AtomicI64>>,
    slow_by: i64,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { fixed: None, slow_by: 0 }
    }

    /// A clock that shows one time until it is moved.
    pub fn fixed(at: Timestamp) -> Self {
        Self { fixed: Some(Arc::new(AtomicI64::new(at.as_millisecond()))), slow_by: 0 }
    }

    /// The same clock, seen by a machine whose clock is behind by a number of seconds.
    #[must_use]
    pub fn slowed(&self, seconds: i64) -> Self {
        Self { fixed: self.fixed.clone(), slow_by: self.slow_by + seconds * 1000 }
    }

    /// The current time, in whole milliseconds.
    pub fn now(&self) -> Timestamp {
        let milliseconds = match &self.fixed {
            Some(fixed) => fixed.load(Ordering::SeqCst),
            None => Timestamp::now().as_millisecond(),
        };
        Timestamp::from_millisecond(milliseconds - self.slow_by).expect("a time of this century")
    }

    /// Moves a fixed clock forward.
    pub fn advance(&self, milliseconds: i64) {
        let fixed = self.fixed.as_ref().expect("only a fixed clock can be moved");
        fixed.fetch_add(milliseconds, Ordering::SeqCst);
    }
}
