//! Any body, signed: it has one of the answers, and nothing of it is lost.
#![no_main]

#[path = "../../tests/support/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|body: &[u8]| invariants::any_signed_body(body));
