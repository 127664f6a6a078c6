//! Rewrites the files of `events/` and `schema/entities.schema.json`: `make events` runs it.

use std::{fs, io};

use test_support::project_root;
use test_support::sample_events::sample_events;

fn main() -> io::Result<()> {
    for (path, content) in sample_events()? {
        fs::write(&path, content)?;
        println!("{}", path.strip_prefix(project_root()).unwrap_or(&path).display());
    }
    Ok(())
}
