//! The layers of the workspace: programs use libraries, no Lambda function links what only another program needs, and
//! no modules use each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::project_root;

/// Returns the names of all packages that a package is built from, itself included.
fn packages(package: &str) -> Vec<String> {
    let arguments = ["tree", "--locked", "--offline", "--edges=normal,build", "--prefix=none", "--format={p}"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

const PROGRAMS: &[&str] = &["so-webhook", "watchdog", "mirror", "consumer", "clap"];
const SQS: &[&str] = &["aws-sdk-sqs", "lambda_http"];
const AWS: &[&str] = &["aws-config", "aws-sdk-cloudwatchlogs", "aws-smithy-runtime"];

/// Each member, and the packages that it must not be built from.
const RULES: [(&str, &[&[&str]]); 9] = [
    ("superoffice-webhook", &[PROGRAMS, &["reqwest", "superoffice-client", "superoffice-consumer", "recovery"]]),
    ("superoffice-client", &[PROGRAMS, SQS, AWS, &["lambda_runtime"]]),
    ("superoffice-consumer", &[PROGRAMS, SQS, AWS, &["lambda_runtime", "reqwest"]]),
    ("aws-setup", &[PROGRAMS, SQS, &["lambda_runtime", "reqwest", "superoffice-webhook"]]),
    ("recovery", &[PROGRAMS, SQS, &["lambda_runtime", "tenants"]]),
    ("tenants", &[PROGRAMS, SQS, &["lambda_runtime", "recovery"]]),
    ("consumer", &[&["so-webhook", "watchdog", "mirror", "clap", "aws-sdk-cloudwatchlogs"], SQS]),
    ("watchdog", &[&["so-webhook", "mirror", "consumer", "clap"], SQS]),
    ("mirror", &[&["so-webhook", "watchdog", "consumer", "recovery", "clap"], SQS]),
];

#[test]
fn each_member_links_only_what_its_layer_needs() {
    for (member, excluded) in RULES {
        let packages = packages(member);
        assert!(packages.iter().any(|name| name == member), "{member}");
        for name in excluded.iter().copied().flatten() {
            assert!(!packages.iter().any(|package| package == name), "{member} links {name}");
        }
    }
}

/// The names of a module and its parents: `["function", "sqs"]`, or nothing for the root of a crate.
type Module = Vec<String>;

/// Returns the file of each module of a crate.
fn modules(sources: &Path) -> BTreeMap<Module, PathBuf> {
    let mut modules = BTreeMap::new();
    let mut folders = vec![(sources.to_owned(), Module::new())];
    while let Some((folder, parent)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let module = [parent.clone(), vec![name.clone()]].concat();
            match path.extension().and_then(|extension| extension.to_str()) {
                None => folders.push((path, module)),
                Some("rs") if ["lib", "mod"].contains(&name.as_str()) => _ = modules.insert(parent.clone(), path),
                Some("rs") if name != "main" => _ = modules.insert(module, path),
                Some(_) => {}
            }
        }
    }
    modules
}

/// Returns the modules that a module names by a path from `crate` or `super`.
fn used(module: &Module, text: &str, modules: &BTreeMap<Module, PathBuf>) -> Vec<Module> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':'));
    let paths = words.filter(|word| word.starts_with("crate::") || word.starts_with("super::"));
    let resolved = paths.map(|path| {
        let mut used = module.clone();
        for name in path.split("::") {
            match name {
                "crate" => used.clear(),
                "super" => _ = used.pop(),
                name => used.push(name.to_owned()),
            }
        }
        // The rest is the path of an item in the module.
        while !used.is_empty() && !modules.contains_key(&used) {
            used.pop();
        }
        used
    });
    resolved.collect()
}

/// Returns the arrows between modules with one parent. An arrow counts for each such pair above its ends: that from
/// `message::encode` to `webhook::event` leads from `message` to `webhook`.
fn arrows(sources: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules = modules(sources);
    let mut arrows: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, file) in &modules {
        for used in used(module, &fs::read_to_string(file).unwrap(), &modules) {
            let parents = module.iter().zip(&used).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(..=parents), used.get(..=parents)) {
                arrows.entry(from.to_vec()).or_default().insert(to.to_vec());
            }
        }
    }
    arrows
}

#[test]
fn no_modules_use_each_other() {
    let mut count = 0;
    for sources in ["", "bench", "cli", "mirror", "watchdog", "tests/superoffice", "tests/support"]
        .into_iter()
        .map(|folder| project_root().join(folder))
        .chain(fs::read_dir(project_root().join("crates")).unwrap().map(|entry| entry.unwrap().path()))
        .map(|member| member.join("src"))
    {
        let mut arrows = arrows(&sources);
        count += arrows.values().map(BTreeSet::len).sum::<usize>();
        // Removes the lowest modules, which use no other. Modules that use each other remain.
        while let Some(lowest) = arrows.values().flatten().find(|used| !arrows.contains_key(*used)).cloned() {
            for used in arrows.values_mut() {
                used.remove(&lowest);
            }
            arrows.retain(|_, used| !used.is_empty());
        }
        assert!(arrows.is_empty(), "{}: {arrows:?}", sources.display());
    }
    assert!(count > 100, "{count} arrows were found");
}
