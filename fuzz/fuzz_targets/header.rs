//! Any signature headers, one per line: only the valid signature is accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use test_support::invariants::check_signature_headers;

fuzz_target!(|headers: &[u8]| {
    let headers: Vec<&[u8]> = headers.split(|byte| *byte == b'\n').collect();
    check_signature_headers(b"body", &headers);
});
