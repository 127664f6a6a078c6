//! The verifier with signatures of other implementations: Python's hmac, and RFC 4231.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use superoffice_webhook::{AuthorizedBody, EmptySecret, Rejection, Secret, Verifier};

/// A body signed by `scripts/make_vectors.py`.
#[derive(Deserialize)]
struct Vector {
    name: String,
    secret: String,
    /// The body is this, repeated.
    body_base64: String,
    body_repeated: usize,
    signature: String,
}

impl Vector {
    fn verifier(&self) -> Verifier {
        Verifier::new(Secret::new(&self.secret).unwrap())
    }

    fn body(&self) -> Vec<u8> {
        STANDARD.decode(&self.body_base64).unwrap().repeat(self.body_repeated)
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../vectors/signatures.json")).unwrap()
}

/// Flips the first bit.
fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    match bytes.first_mut() {
        Some(byte) => *byte ^= 1,
        None => bytes.push(0),
    }
    bytes
}

#[track_caller]
fn assert_mismatch(result: Result<AuthorizedBody, Rejection>, name: &str) {
    assert_eq!(result.err(), Some(Rejection::Mismatch), "{name}");
}

#[test]
fn signature_by_python_is_accepted_and_the_body_is_unchanged() {
    for vector in vectors() {
        let authorized = vector.verifier().authenticate("", vector.body(), [&vector.signature]).unwrap();
        assert!(authorized.bytes() == vector.body(), "{}", vector.name);
        assert_eq!(authorized.signature().to_string(), vector.signature, "{}", vector.name);
        assert_eq!(authorized.signed_by().as_str(), "current", "{}", vector.name);
    }
}

#[test]
fn body_with_one_changed_bit_is_rejected() {
    for vector in vectors() {
        let result = vector.verifier().authenticate("", flipped(vector.body()), [&vector.signature]);
        assert_mismatch(result, &vector.name);
    }
}

#[test]
fn signature_with_one_changed_bit_is_rejected() {
    for vector in vectors() {
        let changed = STANDARD.encode(flipped(STANDARD.decode(&vector.signature).unwrap()));
        assert_mismatch(vector.verifier().authenticate("", vector.body(), [changed]), &vector.name);
    }
}

#[test]
fn signature_by_another_secret_is_rejected() {
    let vectors = vectors();
    for vector in &vectors {
        for other in vectors.iter().filter(|other| other.secret != vector.secret) {
            let result = other.verifier().authenticate("", vector.body(), [&vector.signature]);
            assert_mismatch(result, &format!("{} with {}", vector.name, other.name));
        }
    }
}

/// RFC 4231, section 4: key, data and HMAC-SHA-256. The fifth case is in a test of its own.
fn rfc_4231() -> [(Vec<u8>, &'static [u8], &'static str); 6] {
    [
        (vec![0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (vec![0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        ((0x01..=0x19).collect(), &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. \
              The key needs to be hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ]
}

#[test]
fn vectors_of_rfc_4231_are_accepted() {
    for (key, data, mac) in rfc_4231() {
        let verifier = Verifier::new(Secret::new(key).unwrap());
        let signature = STANDARD.encode(hex::decode(mac).unwrap());
        assert_eq!(verifier.authenticate("", data.to_vec(), [&signature]).unwrap().bytes(), data);
        assert_mismatch(verifier.authenticate("", flipped(data.to_vec()), [&signature]), mac);
    }
}

/// The fifth case truncates the MAC to 128 bits, which SuperOffice never does.
#[test]
fn truncated_vector_of_rfc_4231_is_rejected() {
    let verifier = Verifier::new(Secret::new([0x0c; 20]).unwrap());
    let signature = STANDARD.encode(hex::decode("a3b6167473100ee06e0c796c2955552b").unwrap());
    let rejection = verifier.authenticate("", b"Test With Truncation".to_vec(), [signature]).unwrap_err();
    assert_eq!(rejection.to_string(), "signature is not 32 bytes long");
}

#[test]
fn empty_secret_is_an_error() {
    assert_eq!(Secret::new("").unwrap_err(), EmptySecret);
}
