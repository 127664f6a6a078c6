//! What a consumer of the queue has to compile: the crates that `docs/consumers.md` shows, and no other.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn cargo_tree() -> String {
    let arguments = "tree -e normal --no-default-features --target x86_64-unknown-linux-gnu --format {lib} --offline";
    let output = Command::new(env!("CARGO")).current_dir(ROOT).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tree_without_the_lambda_half_is_the_documented_one() {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/consumers.md")).unwrap();
    let (_, block) = document.split_once("$ cargo tree").unwrap();
    let (_, block) = block.split_once('\n').unwrap();
    let (documented, _) = block.split_once("```").unwrap();
    let found = cargo_tree();
    assert!(documented == found, "docs/consumers.md should show:\n{found}");
}

#[test]
fn the_tree_without_the_lambda_half_is_small() {
    let tree = cargo_tree();
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').find(|word| is_name(word))).collect();
    assert!(crates.contains("serde_json") && crates.contains("hmac"), "{crates:?}");
    // With the crate itself; the way to a larger number is to know why it is worth it.
    assert!(crates.len() <= 30, "{} crates: {crates:?}", crates.len());
    for heavy in ["aws", "tokio", "lambda", "hyper", "http", "rustls", "ring", "tracing", "futures"] {
        let found: Vec<_> = crates.iter().filter(|name| name.starts_with(heavy)).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
}
