//! The files in `events/` are what their payloads say.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[path = "support/envelope.rs"]
mod envelope;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_envelope_is_what_its_payload_says() -> io::Result<()> {
    for (path, expected) in envelope::envelopes(Path::new(ROOT))? {
        let found = fs::read_to_string(&path)?;
        assert!(found == expected, "{} is out of date: run `make events`", path.display());
    }
    Ok(())
}

#[test]
fn nothing_in_events_is_left_over() -> io::Result<()> {
    let written: BTreeSet<PathBuf> = envelope::envelopes(Path::new(ROOT))?.into_iter().map(|(path, _)| path).collect();
    let found = fs::read_dir(Path::new(ROOT).join("events"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| path.as_ref().map_or(true, |path| path.is_file()))
        .collect::<io::Result<BTreeSet<_>>>()?;
    assert_eq!(found, written);
    Ok(())
}
