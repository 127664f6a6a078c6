//! The table in docs/guarantees.md is complete, and the tests in it exist.

use std::fs;

use test_support::project_root;

fn read(path: &str) -> String {
    fs::read_to_string(project_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the bold beginning of each item of a list, without punctuation at its end.
fn claims(text: &str) -> Vec<String> {
    let items = text.split("\n- **").skip(1);
    let claim = |item: &str| item.split_once("**").unwrap().0.split_whitespace().collect::<Vec<_>>().join(" ");
    items.map(claim).map(|claim| claim.trim_end_matches(['.', ',', ':']).to_owned()).collect()
}

/// Returns the guarantees in the table, each with the cell of its tests.
fn guarantees() -> Vec<(String, String)> {
    let table = read("docs/guarantees.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    rows.skip(1).map(|(guarantee, tests)| (guarantee.to_owned(), tests.to_owned())).collect()
}

#[test]
fn table_has_every_guarantee_of_the_readme_and_every_claim_of_the_threat_model() {
    let readme = read("README.md");
    let (_, section) = readme.split_once("## Guarantees\n").unwrap();
    let mut expected = claims(section.split("\n## ").next().unwrap());
    expected.extend(claims(&read("docs/threat-model.md")));
    assert!(expected.len() > 40, "{expected:?}");
    let listed: Vec<String> = guarantees().into_iter().map(|(guarantee, _)| guarantee).collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_listed_test_exists() {
    for (guarantee, cell) in guarantees() {
        let tests: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty() || cell.starts_with("none: "), "{guarantee}: {cell}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{guarantee}: {test}"));
            let keyword = if file.ends_with(".py") { "def" } else { "fn" };
            assert!(read(file).contains(&format!("{keyword} {name}(")), "{guarantee}: {test}");
        }
    }
}
