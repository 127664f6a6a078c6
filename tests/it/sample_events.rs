//! The files in `events/`.

use std::collections::BTreeSet;
use std::fs;

use test_support::project_root;
use test_support::sample_events::sample_events;

#[test]
fn sample_events_are_up_to_date() {
    for (path, expected) in sample_events().unwrap() {
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is out of date: run `make events`", path.display());
    }
}

#[test]
fn events_folder_contains_only_generated_files() {
    let expected: BTreeSet<_> = sample_events().unwrap().into_keys().collect();
    let folders = ["events", "events/entities"].map(|folder| fs::read_dir(project_root().join(folder)).unwrap());
    let files = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let schema = [project_root().join("schema/entities.schema.json")];
    assert_eq!(files.filter(|path| path.is_file()).chain(schema).collect::<BTreeSet<_>>(), expected);
}
