//! The table in docs/guarantees.md is complete, and the tests in it exist and run.

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
            assert!(is_test(&read(file), file.ends_with(".py"), name), "{guarantee}: {test}");
        }
    }
}

/// Returns `true` if the source defines a test with this name that runs: no helper, and not ignored.
fn is_test(source: &str, is_python: bool, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let (starts, prefixes) = if is_python {
        (vec![format!("def {name}(")], ["@", "#"])
    } else {
        (vec![format!("fn {name}("), format!("async fn {name}(")], ["#[", "//"])
    };
    let Some(at) = lines.iter().position(|line| starts.iter().any(|start| line.starts_with(start))) else {
        return false;
    };
    let above = lines[..at].iter().rev().take_while(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)));
    let above: Vec<&str> = above.copied().collect();
    let has = |attribute: &str| above.iter().any(|line| line.starts_with(attribute));
    if is_python {
        name.starts_with("test_") && !has("@pytest.mark.skip") && !has("@pytest.mark.xfail")
    } else {
        (has("#[test]") || has("#[tokio::test]") || has("#[tokio::test(")) && !has("#[ignore")
    }
}

#[test]
fn helper_or_ignored_test_is_not_accepted_as_a_test() {
    for (source, expected) in [
        ("#[test]\nfn name() {}", true),
        ("    #[tokio::test(start_paused = true)]\n    async fn name() {}", true),
        ("#[test]\n/// Comment.\n#[should_panic]\nfn name(body: Vec<u8>) {}", true),
        ("#[test]\nfn other() {}\n\nfn name() {}", false),
        ("#[test]\nfn other() {}\nfn name() {}", false),
        ("async fn name() {}", false),
        ("#[test]\n#[ignore = \"slow\"]\nfn name() {}", false),
        ("// #[test]\nfn name() {}", false),
        ("#[test]\nfn name2() {}", false),
    ] {
        assert_eq!(is_test(source, false, "name"), expected, "{source}");
    }
    for (source, expected) in [
        ("def test_name(fixture):", true),
        ("@pytest.mark.parametrize(\"x\", [1])\ndef test_name(x):", true),
        ("@pytest.mark.skip\ndef test_name():", false),
        ("def test_name2():", false),
    ] {
        assert_eq!(is_test(source, true, "test_name"), expected, "{source}");
    }
    assert!(!is_test("def name():", true, "name"));
}

/// `panic = "abort"` would end the process at the first panic, in the released binary only.
#[test]
fn released_binary_unwinds_at_a_panic() {
    let manifest = read("Cargo.toml");
    let (_, profile) = manifest.split_once("\n[profile.release]\n").unwrap();
    let profile = profile.split("\n[").next().unwrap();
    assert!(profile.lines().any(|line| line == r#"panic = "unwind""#), "{profile}");
}
