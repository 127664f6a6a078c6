//! The new lines of a log that is read again and again.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::delivery::Delivery;
use crate::delivery_log::DeliveryLog;
use crate::logs::{DISORDER, LogError};

/// The lines that were read so far. Memory is bounded by the lines of a minute, or those of the first read.
pub(super) struct Watch {
    from: Timestamp,
    /// The time of each line, and a hash instead of its text.
    seen: BTreeSet<(Timestamp, u64)>,
}

impl Watch {
    /// Begins with the lines of a point in time.
    pub(super) fn since(from: Timestamp) -> Self {
        Self { from, seen: BTreeSet::new() }
    }

    /// Passes each delivery to `found` that was not found before.
    pub(super) async fn read(&mut self, log: &DeliveryLog, mut found: impl FnMut(&Delivery)) -> Result<(), LogError> {
        let seen = &mut self.seen;
        log.deliveries(self.from, |filed, line, delivery| {
            if seen.insert((filed, line)) {
                found(delivery);
            }
        })
        .await?;
        // The next read begins where lines can still appear.
        let from = self.seen.last().and_then(|(latest, _)| latest.saturating_sub(DISORDER).ok());
        if let Some(from) = from.filter(|from| *from > self.from) {
            self.from = from;
            self.seen = self.seen.split_off(&(from, 0));
        }
        Ok(())
    }
}
