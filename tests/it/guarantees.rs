//! The list in docs/guarantees.md is complete, and the tests in it exist and run.

use std::fs;

use test_support::project_root;

fn read(path: &str) -> String {
    fs::read_to_string(project_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the items of the lists in a text: the bold beginning without punctuation at its end, and the rest.
fn items(text: &str) -> Vec<(String, &str)> {
    let items = text.split("\n- **").skip(1).map(|item| item.split_once("**").unwrap());
    let claim = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    items.map(|(bold, rest)| (claim(bold).trim_end_matches(['.', ',', ':']).to_owned(), rest)).collect()
}

#[test]
fn list_has_every_guarantee_of_the_readme_and_every_claim_of_the_threat_model() {
    let claims = |text: &str| items(text).into_iter().map(|(claim, _)| claim).collect::<Vec<_>>();
    let readme = read("README.md");
    let (_, section) = readme.split_once("## Guarantees\n").unwrap();
    let mut expected = claims(section.split("\n## ").next().unwrap());
    expected.extend(claims(&read("docs/threat-model.md")));
    assert!(expected.len() > 40, "{expected:?}");
    assert_eq!(claims(&read("docs/guarantees.md")), expected);
}

#[test]
fn every_guarantee_names_one_or_two_tests_that_exist_and_run() {
    for (guarantee, rest) in items(&read("docs/guarantees.md")) {
        let item = rest.split("\n\n").next().unwrap();
        let tests: Vec<&str> = item.split('`').filter(|text| text.contains("::")).collect();
        let has_none = item.starts_with(" a measurement") || item.starts_with(" a fact of ");
        assert!(if has_none { tests.is_empty() } else { (1..=2).contains(&tests.len()) }, "{guarantee}: {item}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            assert!(is_test(&read(file), name), "{guarantee}: {test}");
        }
    }
}

/// Returns `true` if the source defines a test with this name that runs: no helper, and not ignored or skipped.
fn is_test(source: &str, name: &str) -> bool {
    let is_python = name.starts_with("test_");
    let start = if is_python { format!("def {name}(") } else { format!("fn {name}(") };
    // Only attributes, decorators and comments are between a function and the last empty line.
    let Some(above) = source.split_once(&start).and_then(|(before, _)| before.rsplit("\n\n").next()) else {
        return false;
    };
    let has = |attribute: &str| above.lines().any(|line| line.trim().starts_with(attribute));
    let is_test = is_python || has("#[test]") || has("#[tokio::test");
    is_test && !has("#[ignore") && !has("@pytest.mark.skip") && !has("@pytest.mark.xfail")
}

#[test]
fn helper_or_ignored_test_is_not_accepted_as_a_test() {
    for (source, name, expected) in [
        ("#[test]\nfn name() {}", "name", true),
        ("    #[tokio::test(start_paused = true)]\n    async fn name() {}", "name", true),
        ("#[test]\nfn other() {}\n\nfn name() {}", "name", false),
        ("#[test]\n#[ignore = \"slow\"]\nfn name() {}", "name", false),
        ("// #[test]\nfn name() {}", "name", false),
        ("#[test]\nfn name2() {}", "name", false),
        ("@pytest.mark.parametrize(\"x\", [1])\ndef test_name(x):", "test_name", true),
        ("@pytest.mark.skip\ndef test_name():", "test_name", false),
        ("def test_name2():", "test_name", false),
    ] {
        assert_eq!(is_test(source, name), expected, "{source}");
    }
}

/// `panic = "abort"` would end the process at the first panic, in the released binary only.
#[test]
fn released_binary_unwinds_at_a_panic() {
    let manifest = read("Cargo.toml");
    let (_, profile) = manifest.split_once("\n[profile.release]\n").unwrap();
    let profile = profile.split("\n[").next().unwrap();
    assert!(profile.lines().any(|line| line == r#"panic = "unwind""#), "{profile}");
}
