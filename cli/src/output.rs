//! Standard output, which only has results, and messages on standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// The form of the results.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Format {
    /// Write one JSON object per line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

impl Format {
    /// Text, for people.
    pub(crate) const TEXT: Self = Self { json: false };
}

/// A stream of results.
///
/// Writing never fails, so that a command that changes something is not interrupted when its reader goes away. A
/// command that only reads ends early when [`is_open`](Self::is_open) is `false`.
pub(crate) struct Output<W> {
    writer: W,
    state: State,
}

enum State {
    Open,
    ReaderGone,
    Failed(io::Error),
}

impl<W: Write> Output<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, state: State::Open }
    }

    /// Writes a line, unless an earlier line could not be written.
    pub(crate) fn line(&mut self, line: impl Display) {
        if self.is_open()
            && let Err(error) = writeln!(self.writer, "{line}")
        {
            self.state = match error.kind() {
                ErrorKind::BrokenPipe => State::ReaderGone,
                _ => State::Failed(error),
            };
        }
    }

    /// Returns `false` once a line could not be written.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    #[cfg(test)]
    pub(crate) fn into_writer(self) -> W {
        self.writer
    }

    /// Returns the error that ended the output, unless the reader has gone away.
    pub(crate) fn into_error(self) -> Option<io::Error> {
        match self.state {
            State::Failed(error) => Some(error),
            State::Open | State::ReaderGone => None,
        }
    }
}

/// Writes a line to standard error. Without a reader, nobody misses it.
pub(crate) fn message(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Asks a question on the terminal.
pub(crate) fn is_confirmed(question: &str) -> io::Result<bool> {
    message(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
