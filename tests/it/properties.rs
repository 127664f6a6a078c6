//! Property tests: any body, any JSON, any header. `test_support::invariants` checks the properties.
//!
//! The seed is fixed unless `PROPTEST_RNG_SEED` sets another. A failure prints the smallest failing case.

use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use superoffice_webhook::{Fields, Rejection, Secret, Verifier};
use test_support::invariants::{check_signature_headers, check_signed_body};
use test_support::{Function, project_root, sign};

fn config(cases: u32) -> ProptestConfig {
    let seed = env::var("PROPTEST_RNG_SEED").ok().map_or(20_180_424, |seed| seed.parse().unwrap());
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..ProptestConfig::default() }
}

/// JSON texts with values that SuperOffice writes and others.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?",
        any::<String>().prop_map(|text| quote(&text)),
        Just(r#""\ud800""#.to_owned()),
        Just("\"\u{FFFE}\u{FFFF}\"".to_owned()),
        Just(r#""\ufffe\uFFFF""#.to_owned()),
        Just(r#""contact.changed""#.to_owned()),
        Just(r#""test""#.to_owned()),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((field_name(), inner), 0..6).prop_map(|fields| object(&fields)),
        ]
    })
}

fn field_name() -> impl Strategy<Value = String> {
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
        .prop_map(quote),
        any::<String>().prop_map(|name| quote(&name)),
        Just(r#""\udfff""#.to_owned()),
    ]
}

/// Fields of an event, except the required ones.
fn other_field() -> impl Strategy<Value = (String, String)> {
    let is_required = |name: &str| ["\"Event\"", "\"EventId\"", "\"PrimaryKey\""].contains(&name);
    (field_name().prop_filter("required", move |name| !is_required(name)), json())
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// Secrets, which are never only whitespace.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..200).prop_filter("whitespace", |key| !key.trim_ascii().is_empty())
}

/// Objects with the required fields of an event, and random others.
fn event() -> impl Strategy<Value = String> {
    let text = || prop_oneof![any::<String>(), "[a-zA-Z0-9.]{1,40}", "\\PC{100,200}"];
    let tenant = prop::option::of(text());
    (text(), text(), any::<i64>(), tenant, prop::collection::vec((field_name(), json()), 0..6)).prop_map(
        |(event, id, key, tenant, mut fields)| {
            let mut add = |name: &str, json: String| fields.push((quote(name), json));
            add("Event", quote(&event));
            add("EventId", quote(&id));
            add("PrimaryKey", key.to_string());
            if let Some(tenant) = tenant {
                add("ContextIdentifier", quote(&tenant));
            }
            object(&fields)
        },
    )
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn any_signed_bytes_are_kept(body: Vec<u8>) {
        check_signed_body(&body);
    }

    #[test]
    fn any_signed_json_is_kept(body in json()) {
        check_signed_body(body.as_bytes());
    }

    #[test]
    fn any_signed_event_is_kept(body in event()) {
        check_signed_body(body.as_bytes());
    }

    /// Only the required fields matter. A byte order mark may precede the body.
    #[test]
    fn event_with_any_other_fields_is_forwarded(
        before in prop::collection::vec(other_field(), 0..4),
        after in prop::collection::vec(other_field(), 0..4),
        has_byte_order_mark: bool,
    ) {
        let required = [("Event", r#""contact.changed""#), ("EventId", r#""1""#), ("PrimaryKey", "7")];
        let required = required.map(|(name, value)| (quote(name), value.to_owned()));
        let event = object(&[before, required.to_vec(), after].concat());
        let body = if has_byte_order_mark { format!("\u{FEFF}{event}") } else { event };
        let expected = if body.contains(['\u{FFFE}', '\u{FFFF}']) { "quarantined" } else { "forwarded" };
        prop_assert_eq!(check_signed_body(body.as_bytes()), [expected; 2], "{}", body);
    }

    #[test]
    fn event_in_another_unicode_encoding_is_quarantined(event in event(), has_byte_order_mark: bool) {
        let text = if has_byte_order_mark { format!("\u{FEFF}{event}") } else { event };
        let utf_16 = || text.encode_utf16();
        let utf_32 = || text.chars().map(u32::from);
        for (name, body) in [
            ("UTF-16LE", utf_16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
            ("UTF-16BE", utf_16().flat_map(u16::to_be_bytes).collect()),
            ("UTF-32LE", utf_32().flat_map(u32::to_le_bytes).collect()),
            ("UTF-32BE", utf_32().flat_map(u32::to_be_bytes).collect()),
        ] {
            let error = Fields::parse(&body).unwrap_err().to_string();
            prop_assert_eq!(error, format!("not UTF-8: encoded as {name}"));
            prop_assert_eq!(check_signed_body(&body), ["quarantined"; 2]);
        }
    }

    #[test]
    fn any_signature_headers_are_rejected(body: Vec<u8>, headers in prop::collection::vec(any::<Vec<u8>>(), 0..3)) {
        let headers: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
        check_signature_headers(&body, &headers);
    }

    #[test]
    fn altered_signature_header_is_rejected(body: Vec<u8>, at in 0_usize..44, with: char, cut in 0_usize..50) {
        let valid = sign(&body, Function::SECRET);
        check_signature_headers(&body, &[valid.as_bytes()]);
        let mut changed: Vec<char> = valid.chars().collect();
        changed[at] = with;
        check_signature_headers(&body, &[changed.iter().collect::<String>().as_bytes()]);
        let shorter: String = valid.chars().take(cut).collect();
        check_signature_headers(&body, &[shorter.as_bytes()]);
        check_signature_headers(&body, &[valid.as_bytes(), shorter.as_bytes()]);
        check_signature_headers(&body, &[format!(" {valid}").as_bytes()]);
    }

    /// The support crate signs with ring, which shares no code with the function's HMAC.
    #[test]
    fn another_hmac_implementation_agrees(key in key(), body: Vec<u8>) {
        let expected = sign(&body, &key);
        let secret = Secret::new(&key).unwrap();
        prop_assert_eq!(secret.sign(&body).to_string(), expected.as_str());
        prop_assert!(Verifier::new(secret).authenticate("", body, [&expected]).is_ok());
    }
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn every_changed_bit_is_rejected(key in key(), body in prop::collection::vec(any::<u8>(), 1..200)) {
        let signature = STANDARD.decode(sign(&body, &key)).unwrap();
        let verifier = Verifier::new(Secret::new(&key).unwrap());
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..body.len() * 8 {
            let result = verifier.authenticate("", flipped(&body, bit), [STANDARD.encode(&signature)]);
            prop_assert_eq!(result.err(), Some(Rejection::Mismatch), "bit {} of the body", bit);
        }
        for bit in 0..signature.len() * 8 {
            let result = verifier.authenticate("", body.clone(), [STANDARD.encode(flipped(&signature, bit))]);
            prop_assert_eq!(result.err(), Some(Rejection::Mismatch), "bit {} of the signature", bit);
        }
    }
}

/// Returns the seed corpus of a fuzz target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(project_root().join("fuzz/corpus").join(target)).unwrap();
    let corpus: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(corpus.len() > 5, "{target}: {} files", corpus.len());
    corpus
}

#[test]
fn fuzz_corpus_of_bodies_is_kept() {
    for body in corpus("body") {
        check_signed_body(&body);
    }
}

#[test]
fn fuzz_corpus_of_headers_is_rejected() {
    for headers in corpus("header") {
        let headers: Vec<&[u8]> = headers.split(|byte| *byte == b'\n').collect();
        check_signature_headers(b"body", &headers);
    }
}
