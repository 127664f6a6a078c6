//! The files in `events/`.

use std::collections::BTreeSet;
use std::fs;

use superoffice_webhook::WebhookEvent;
use superoffice_webhook::webhook::entity::{ENTITIES, Entity};
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
    assert_eq!(files.filter(|path| path.is_file()).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn each_documented_entity_has_a_sample_with_every_column_and_its_type() {
    let payloads = ["events/payloads/contact-created.json".to_owned()].into_iter();
    let others = fs::read_dir(project_root().join("events/entities/payloads")).unwrap();
    let others = others.map(|entry| format!("events/entities/payloads/{}", entry.unwrap().file_name().display()));
    let mut found = BTreeSet::new();
    for path in payloads.chain(others) {
        let event = WebhookEvent::parse(&fs::read(project_root().join(&path)).unwrap()).unwrap();
        let entity = Entity::of_event(event.metadata().event()).unwrap();
        assert!(event.metadata().primary_key().is_some(), "{path}");
        found.insert(entity.name);
        if entity.name == "contact" {
            continue;
        }
        for column in entity.integers {
            assert!(event.column(column).unwrap().integer().is_some(), "{path} {column}");
        }
        for column in entity.booleans {
            assert!(event.column(column).unwrap().boolean().is_some(), "{path} {column}");
        }
        for column in entity.dates {
            let value = event.column(column).unwrap();
            assert!(value.date().is_some() || value.is_none(), "{path} {column}");
        }
    }
    assert_eq!(found, ENTITIES.iter().map(|entity| entity.name).collect::<BTreeSet<_>>());
}
