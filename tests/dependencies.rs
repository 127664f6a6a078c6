//! What has to be compiled: for a consumer of the queue the crates that the documents show, and no other; for the
//! function everything but the cryptography that makes a cold start slow.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FUNCTION: &str = "-e normal --target x86_64-unknown-linux-gnu --format '{lib}'";
const LIBRARY: &str = "-e normal --no-default-features --target x86_64-unknown-linux-gnu --format '{lib}'";

/// What `cargo tree` prints with these options.
fn cargo_tree(options: &str) -> String {
    let options = options.split_whitespace().map(|word| word.trim_matches('\''));
    let output =
        Command::new(env!("CARGO")).current_dir(ROOT).args(["tree", "--offline"]).args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names in such a tree.
fn crates(tree: &str) -> BTreeSet<&str> {
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic());
    tree.lines().filter_map(|line| line.split(' ').find(is_name)).collect()
}

#[test]
fn the_trees_without_the_lambda_half_are_the_documented_ones() {
    for file in ["README.md", "docs/consumers.md"] {
        let document = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        let (_, block) = document.split_once("$ cargo tree").unwrap();
        let (options, block) = block.split_once('\n').unwrap();
        let (documented, _) = block.split_once("```").unwrap();
        let found = cargo_tree(options);
        assert!(documented == found, "{file} should show:\n{found}");
    }
}

#[test]
fn the_tree_without_the_lambda_half_is_small() {
    let tree = cargo_tree(LIBRARY);
    let crates = crates(&tree);
    assert!(crates.contains("serde_json") && crates.contains("hmac"), "{crates:?}");
    // With the crate itself; the way to a larger number is to know why it is worth it.
    assert!(crates.len() <= 30, "{} crates: {crates:?}", crates.len());
    for heavy in ["aws", "tokio", "lambda", "hyper", "http", "rustls", "ring", "tracing", "futures"] {
        let found: Vec<_> = crates.iter().filter(|name| name.starts_with(heavy)).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn the_function_is_without_aws_lc() {
    let tree = cargo_tree(FUNCTION);
    let crates = crates(&tree);
    assert!(crates.contains("aws_sdk_sqs") && crates.contains("ring"), "{crates:?}");
    let found: Vec<_> = crates.iter().filter(|name| name.starts_with("aws_lc")).collect();
    assert!(found.is_empty(), "{found:?}");
}
