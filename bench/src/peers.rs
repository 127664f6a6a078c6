//! The measured implementations: how each is built or installed, and started.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use test_support::{Process, SqsServer};

pub(crate) const FUNCTION: &str = "this function";
pub(crate) const RUST_DEFAULT: &str = "Rust, default features";
pub(crate) const NODE: &str = "Node 20, SDK 3";
pub(crate) const PYTHON: &str = "Python, boto3";
pub(crate) const EMPTY: &str = "empty `lambda_http` function";
pub(crate) const FLOOR: &str = "hand-written floor";

/// An implementation.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// `false` for the empty function, which queues nothing.
    pub(crate) queues: bool,
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    /// The deployed file, if it is the only one.
    artifact: Option<PathBuf>,
}

impl Peer {
    /// Returns its process as in Lambda, which trusts the certificate of SQS.
    pub(crate) fn process(&self, sqs: &SqsServer) -> Process {
        let mut process = Process::new(&self.program).current_dir(&self.directory).envs(sqs.environment());
        for argument in &self.arguments {
            process = process.arg(argument);
        }
        match self.name {
            // Node has built-in root certificates.
            NODE => process.env("NODE_EXTRA_CA_CERTS", sqs.root_file().unwrap()),
            PYTHON => process.env("AWS_CA_BUNDLE", sqs.roots_file().unwrap()),
            _ => process,
        }
    }

    /// Returns the size of the deployed file, plain and deflated, in bytes.
    pub(crate) fn artifact(&self) -> Option<(usize, usize)> {
        let bytes = fs::read(self.artifact.as_ref()?).ok()?;
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes).ok()?;
        Some((bytes.len(), encoder.finish().ok()?.len()))
    }
}

/// Returns the root certificates of this machine, so that a function loads as many as in Lambda.
pub(crate) fn system_roots() -> String {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .iter()
        .find_map(|file| fs::read_to_string(file).ok())
        .unwrap_or_default()
}

/// An implementation, or the reason why it is not available.
type Available = Result<Peer, String>;

/// Builds or installs all implementations, in the order of the tables.
pub(crate) fn all(root: &Path) -> Vec<(&'static str, Available)> {
    let rust = |name, queues, package| peer(root, package).map(|program| native(name, queues, program));
    vec![
        (FUNCTION, member(root, "superoffice-webhook").map(|program| native(FUNCTION, true, program))),
        (RUST_DEFAULT, rust(RUST_DEFAULT, true, "rust-default")),
        (NODE, node(root)),
        (PYTHON, python(root)),
        (EMPTY, rust(EMPTY, false, "rust-empty")),
        (FLOOR, rust(FLOOR, true, "rust-floor")),
    ]
}

/// Builds a program of this workspace.
pub(crate) fn member(root: &Path, program: &str) -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    run(cargo().args(["build", "--release", "--locked", "--package", program, "--bin", program]).current_dir(root))?;
    Ok(target.join("release").join(program))
}

/// Builds a program of a folder in `bench/peers`.
pub(crate) fn peer(root: &Path, package: &str) -> Result<PathBuf, String> {
    let target = root.join("bench/target");
    run(cargo()
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(root.join("bench/peers").join(package).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target))?;
    Ok(target.join("release").join(format!("peer-{package}")))
}

fn native(name: &'static str, queues: bool, program: PathBuf) -> Peer {
    Peer { name, queues, artifact: Some(program.clone()), directory: "/".into(), arguments: Vec::new(), program }
}

fn node(root: &Path) -> Available {
    let node = find("node")?;
    let version = output(Command::new(&node).args(["-p", "process.version"]))?;
    if !version.starts_with("v20.") {
        return Err(format!("it needs Node 20, found {version}"));
    }
    let home = root.join(".tools/bench/node");
    let source = root.join("bench/peers/node");
    for file in ["package.json", "package-lock.json", "index.mjs"] {
        copy(&source.join(file), &home.join(file))?;
    }
    install(&home, "package-lock.json", || {
        for tool in ["npm", "cmake", "make", "g++", "autoreconf", "libtoolize"] {
            find(tool).map_err(|error| format!("{error} (to build the Lambda client for Node)"))?;
        }
        // Without this, node-gyp downloads Node's headers even if they are installed.
        let prefix = node.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
        let mut npm = Command::new("npm");
        if prefix.join("include/node").is_dir() {
            npm.env("npm_config_nodedir", prefix);
        }
        run(npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&home))
    })?;
    run(Command::new(home.join("node_modules/.bin/esbuild"))
        .args(["index.mjs", "--bundle", "--minify", "--platform=node", "--target=node20", "--outfile=index.js"])
        .current_dir(&home))?;
    Ok(Peer {
        name: NODE,
        queues: true,
        arguments: vec!["node_modules/aws-lambda-ric/bin/index.mjs".into(), "index.handler".into()],
        artifact: Some(home.join("index.js")),
        directory: home,
        program: node,
    })
}

fn python(root: &Path) -> Available {
    let home = root.join(".tools/bench/python");
    let source = root.join("bench/peers/python");
    for file in ["requirements.txt", "handler.py"] {
        copy(&source.join(file), &home.join(file))?;
    }
    let python = home.join("venv/bin/python");
    install(&home, "requirements.txt", || {
        let base = std::env::var("PYTHON").unwrap_or("python3".into());
        run(Command::new(find(&base)?).args(["-m", "venv", "--clear", "venv"]).current_dir(&home))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "-r", "requirements.txt"])
            .current_dir(&home))
    })?;
    Ok(Peer {
        name: PYTHON,
        queues: true,
        program: python,
        arguments: vec!["-m".into(), "awslambdaric".into(), "handler.handler".into()],
        directory: home,
        artifact: None,
    })
}

/// Installs the packages of a lock file, unless they are installed and the file is unchanged.
fn install(home: &Path, lock: &str, install: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let wanted = fs::read(home.join(lock)).map_err(|error| format!("{lock}: {error}"))?;
    let stamp = home.join(".installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install()?;
    fs::write(stamp, wanted).map_err(|error| error.to_string())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))
        .and_then(|()| fs::copy(from, to))
        .map_err(|error| format!("{}: {error}", from.display()))?;
    Ok(())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
}

fn find(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{program} is not installed"))
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command, and shows its output only if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    eprintln!("{command:?}");
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Err(format!("{} failed", command.get_program().to_string_lossy()))
}
