//! Runs against a fake SuperOffice, with the real function as the receiver.

mod histories;
mod program;
mod runs;
mod support;
