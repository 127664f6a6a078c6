//! Any signature headers, one a line: only the right one lets a body in.
#![no_main]

#[path = "../../tests/support/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|headers: &[u8]| {
    let headers: Vec<&[u8]> = headers.split(|byte| *byte == b'\n').collect();
    invariants::any_signature(b"body", &headers);
});
