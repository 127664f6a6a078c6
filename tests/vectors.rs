//! The verifier against signatures that it has not made: Python's, and those of RFC 4231.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use superoffice_webhook::signature::{Rejection, Secret, SignedBy, Verifier};

type TestResult = Result<(), Box<dyn Error>>;

/// A body signed by `scripts/make_vectors.py`.
#[derive(Deserialize)]
struct Vector {
    name: String,
    secret: String,
    /// The body is this, so often in a row.
    body_base64: String,
    body_repeated: usize,
    signature: String,
}

impl Vector {
    fn verifier(&self) -> Result<Verifier, Box<dyn Error>> {
        Ok(Verifier::new(Secret::new(&self.secret)?))
    }

    fn body(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        Ok(STANDARD.decode(&self.body_base64)?.repeat(self.body_repeated))
    }
}

fn vectors() -> Result<Vec<Vector>, serde_json::Error> {
    serde_json::from_str(include_str!("vectors/signatures.json"))
}

/// The same with its first bit flipped.
fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    match bytes.first_mut() {
        Some(byte) => *byte ^= 1,
        None => bytes.push(0),
    }
    bytes
}

#[test]
fn what_another_implementation_signed_is_accepted_byte_for_byte() -> TestResult {
    for vector in vectors()? {
        let verified = vector
            .verifier()?
            .verify(vector.body()?, [&vector.signature])
            .map_err(|rejection| format!("{}: {rejection}", vector.name))?;
        assert!(verified.bytes() == vector.body()?, "{}", vector.name);
        assert_eq!(verified.signature().to_string(), vector.signature, "{}", vector.name);
        assert_eq!(verified.signed_by(), SignedBy::Current, "{}", vector.name);
    }
    Ok(())
}

#[test]
fn a_body_with_one_bit_changed_is_refused() -> TestResult {
    for vector in vectors()? {
        let refused = vector.verifier()?.verify(flipped(vector.body()?), [&vector.signature]);
        assert_eq!(refused.err(), Some(Rejection::Mismatch), "{}", vector.name);
    }
    Ok(())
}

#[test]
fn a_signature_with_one_bit_changed_is_refused() -> TestResult {
    for vector in vectors()? {
        let changed = STANDARD.encode(flipped(STANDARD.decode(&vector.signature)?));
        let refused = vector.verifier()?.verify(vector.body()?, [changed]);
        assert_eq!(refused.err(), Some(Rejection::Mismatch), "{}", vector.name);
    }
    Ok(())
}

#[test]
fn a_signature_by_another_secret_is_refused() -> TestResult {
    let vectors = vectors()?;
    for vector in &vectors {
        for other in vectors.iter().filter(|other| other.secret != vector.secret) {
            let refused = other.verifier()?.verify(vector.body()?, [&vector.signature]);
            assert_eq!(refused.err(), Some(Rejection::Mismatch), "{} with {}", vector.name, other.name);
        }
    }
    Ok(())
}

/// RFC 4231, section 4: key, data, HMAC-SHA-256 in hex. The fifth case is below.
fn rfc_4231() -> [(Vec<u8>, Vec<u8>, &'static str); 6] {
    [
        (vec![0x0b; 20], b"Hi There".to_vec(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (vec![0xaa; 20], vec![0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        ((0x01..=0x19).collect(), vec![0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. \
              The key needs to be hashed before being used by the HMAC algorithm."
                .to_vec(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ]
}

fn bytes_of(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect()
}

#[test]
fn the_verifier_accepts_the_vectors_of_rfc_4231() -> TestResult {
    for (key, data, hex) in rfc_4231() {
        let verifier = Verifier::new(Secret::new(key)?);
        let signature = STANDARD.encode(bytes_of(hex)?);
        let verified =
            verifier.verify(data.clone(), [&signature]).map_err(|rejection| format!("{hex}: {rejection}"))?;
        assert_eq!(verified.bytes(), data);
        let refused = verifier.verify(flipped(data), [&signature]);
        assert_eq!(refused.err(), Some(Rejection::Mismatch), "{hex}");
    }
    Ok(())
}

/// RFC 4231's fifth case cuts the MAC to 128 bits. SuperOffice never does, so it is no signature.
#[test]
fn the_truncated_vector_of_rfc_4231_is_refused_for_its_length() -> TestResult {
    let verifier = Verifier::new(Secret::new([0x0c; 20])?);
    let signature = STANDARD.encode(bytes_of("a3b6167473100ee06e0c796c2955552b")?);
    let refused = verifier.verify(b"Test With Truncation".to_vec(), [signature]);
    assert_eq!(refused.err(), Some(Rejection::WrongLength));
    Ok(())
}

#[test]
fn no_secret_is_empty() {
    assert!(Secret::new("").is_err());
}
