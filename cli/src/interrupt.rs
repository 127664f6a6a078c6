//! SIGINT and SIGTERM, for commands that change something step by step.

use std::{io, process, thread};

use tokio::runtime::Builder;
use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Status;
use crate::output::message;

/// A request to stop: the first signal asks for it, the second ends the process at once.
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Replaces the effect of both signals, which otherwise end the process.
    pub(crate) fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate) = {
            let _context = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let (sender, receiver) = watch::channel(false);
        // A thread, because the main thread may be blocked by a reader of standard output that does not read.
        thread::spawn(move || {
            runtime.block_on(async {
                let mut next = async || select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
                next().await;
                sender.send_replace(true);
                next().await;
                process::exit(1);
            });
        });
        Ok(Self(receiver))
    }

    /// Returns `true` after the first SIGINT or SIGTERM.
    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for a result that may be given up, such as a read or a pause. Returns `None` after the
    /// first SIGINT or SIGTERM.
    pub(crate) async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut request = self.0.clone();
        select! {
            biased;
            Ok(_) = request.wait_for(|is_requested| *is_requested) => None,
            result = future => Some(result),
        }
    }
}

/// Reports an interrupted command. `continuation` is the command that continues, without the program's name.
pub(crate) fn interrupted(continuation: &str) -> Status {
    message(format_args!("interrupted; continue with: so-webhook {continuation}"));
    Status::NeedsAttention
}
