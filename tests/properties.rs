//! Property tests: any body, any JSON, any header. What holds for them is in `support/invariants.rs`.
//!
//! Cases come from a fixed seed unless `PROPTEST_RNG_SEED` names another; a failure prints the smallest case it finds.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

#[path = "support/invariants.rs"]
mod invariants;

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use superoffice_webhook::signature::{Rejection, Secret, SignedBy, Verifier};

fn cases(cases: u32) -> ProptestConfig {
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_180_424);
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..ProptestConfig::default() }
}

/// A JSON text, of values that SuperOffice writes and that it does not.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\ud800""#.to_owned()),
        Just("\"\u{FFFE}\u{FFFF}\"".to_owned()),
        Just(r#""contact.changed""#.to_owned()),
        Just(r#""test""#.to_owned()),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((name(), inner), 0..6).prop_map(|fields| object(&fields)),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "Event",
            "EventId",
            "Entity",
            "PrimaryKey",
            "ContextIdentifier",
            "WebhookName",
            "Timestamp",
            "Changes",
            "Values",
            "FieldValues",
            "ChangedByAssociateId",
            "contextidentifier",
        ])
        .prop_map(|name| serde_json::to_string(name).unwrap()),
        any::<String>().prop_map(|name| serde_json::to_string(&name).unwrap()),
        Just(r#""\udfff""#.to_owned()),
    ]
}

fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// A secret; white space alone is none.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..200).prop_filter("white space", |key| !key.trim_ascii().is_empty())
}

/// Objects that come near to an event.
fn event() -> impl Strategy<Value = String> {
    let text = || prop_oneof![any::<String>(), "[a-zA-Z0-9.]{1,40}", "\\PC{100,200}"];
    let tenant = prop::option::of(text());
    (text(), text(), any::<i64>(), tenant, prop::collection::vec((name(), json()), 0..6)).prop_map(
        |(event, id, key, tenant, mut more)| {
            let mut field = |name: &str, text: String| more.push((format!("\"{name}\""), text));
            field("Event", serde_json::to_string(&event).unwrap());
            field("EventId", serde_json::to_string(&id).unwrap());
            field("PrimaryKey", key.to_string());
            if let Some(tenant) = tenant {
                field("ContextIdentifier", serde_json::to_string(&tenant).unwrap());
            }
            object(&more)
        },
    )
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_bytes_have_an_answer_and_are_kept(body: Vec<u8>) {
        invariants::any_signed_body(&body);
    }

    #[test]
    fn any_json_has_an_answer_and_is_kept(body in json()) {
        invariants::any_signed_body(body.as_bytes());
    }

    #[test]
    fn any_event_has_an_answer_and_is_kept(body in event()) {
        invariants::any_signed_body(body.as_bytes());
    }

    #[test]
    fn any_header_has_an_answer(body: Vec<u8>, headers in prop::collection::vec(any::<Vec<u8>>(), 0..3)) {
        let headers: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
        invariants::any_signature(&body, &headers);
    }

    #[test]
    fn a_header_near_the_right_one_has_an_answer(body: Vec<u8>, at in 0_usize..44, with: char, cut in 0_usize..50) {
        let right = Secret::new("s3cret").unwrap().sign(&body).to_string();
        invariants::any_signature(&body, &[right.as_bytes()]);
        let mut changed: Vec<char> = right.chars().collect();
        changed[at] = with;
        invariants::any_signature(&body, &[changed.iter().collect::<String>().as_bytes()]);
        let shorter: String = right.chars().take(cut).collect();
        invariants::any_signature(&body, &[shorter.as_bytes()]);
        invariants::any_signature(&body, &[right.as_bytes(), shorter.as_bytes()]);
        invariants::any_signature(&body, &[format!(" {right}").as_bytes()]);
    }

    /// ring's HMAC shares no code with the one that the function has.
    #[test]
    fn another_implementation_agrees(key in key(), body: Vec<u8>) {
        let other = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key), &body);
        let other = STANDARD.encode(other);
        prop_assert_eq!(Secret::new(&key).unwrap().sign(&body).to_string(), other.as_str());
        let verified = Verifier::new(Secret::new(&key).unwrap()).verify(body, [&other]);
        prop_assert_eq!(verified.map(|verified| verified.signed_by()), Ok(SignedBy::Current));
    }
}

proptest! {
    #![proptest_config(cases(20))]

    #[test]
    fn every_change_of_one_bit_is_refused(
        key in key(),
        body in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let secret = Secret::new(&key).unwrap();
        let signature = STANDARD.decode(secret.sign(&body).to_string()).unwrap();
        let verifier = Verifier::new(secret);
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..body.len() * 8 {
            let refused = verifier.verify(flipped(&body, bit), [STANDARD.encode(&signature)]);
            prop_assert_eq!(refused.err(), Some(Rejection::Mismatch), "bit {} of the body", bit);
        }
        for bit in 0..signature.len() * 8 {
            let refused = verifier.verify(body.clone(), [STANDARD.encode(flipped(&signature, bit))]);
            prop_assert_eq!(refused.err(), Some(Rejection::Mismatch), "bit {} of the signature", bit);
        }
    }
}

/// A `Signature` has no `==` (its documentation has an example that must not compile), so bytes of one could be compared
/// only where they are reached: in this file, outside of its tests, in one place, by the MAC's own check.
#[test]
fn signatures_are_compared_by_the_mac_alone() {
    let source = include_str!("../src/signature.rs").split("#[cfg(test)]").next().unwrap();
    let lines = |what: &str| source.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let check = "    mac.clone().chain_update(body).verify_slice(&signature.0).is_ok()";
    assert_eq!(lines("signature.0"), [check]);
    assert_eq!(lines("verify").iter().filter(|line| line.contains("slice")).count(), 1);
    assert_eq!(lines("self.0"), ["        f.write_str(&STANDARD.encode(self.0))"], "only ever shown");
    for other in ["verify_truncated", "finalize_fixed", "constant_time", "ct_eq", "PartialEq for Signature"] {
        assert!(lines(other).is_empty(), "{other}");
    }
}

/// The corpus of the fuzz targets, without the fuzzer.
#[test]
fn the_corpus_holds() {
    for (target, check) in [("body", body as fn(&[u8])), ("header", header as fn(&[u8]))] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files = 0;
        for file in fs::read_dir(&directory).expect("a corpus") {
            check(&fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files > 5, "{}", directory.display());
    }
}

fn body(bytes: &[u8]) {
    invariants::any_signed_body(bytes);
}

fn header(bytes: &[u8]) {
    let headers: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    invariants::any_signature(b"body", &headers);
}
