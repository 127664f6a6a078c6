//! Any signed body: it has a response and is not lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use test_support::invariants::check_signed_body;

fuzz_target!(|body: &[u8]| {
    check_signed_body(body);
});
