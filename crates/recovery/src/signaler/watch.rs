//! The new lines of a log that is read again and again.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::delivery_log::{Delivery, DeliveryLog};
use crate::logs::LogError;

/// A line appears at most this much later than a line of a later time.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// The lines that were read so far. Memory is bounded by the lines of a minute, or those of the first look.
pub(super) struct Watch {
    from: Timestamp,
    /// The time of each line, and a hash instead of its text.
    read: BTreeSet<(Timestamp, u64)>,
}

impl Watch {
    /// Begins with the lines of a point in time.
    pub(super) fn since(from: Timestamp) -> Self {
        Self { from, read: BTreeSet::new() }
    }

    /// Passes each delivery to `found` that was not found before.
    pub(super) async fn look(&mut self, log: &DeliveryLog, mut found: impl FnMut(&Delivery)) -> Result<(), LogError> {
        let read = &mut self.read;
        log.deliveries(self.from, |filed, line, delivery| {
            if read.insert((filed, line)) {
                found(delivery);
            }
        })
        .await?;
        let late = self.read.last().and_then(|(latest, _)| latest.saturating_sub(LATE).ok());
        if let Some(from) = late.filter(|late| *late > self.from) {
            self.from = from;
            self.read = self.read.split_off(&(from, 0));
        }
        Ok(())
    }
}
