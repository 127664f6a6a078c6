"""Builds a release in dist/ (`make dist`): functions, their templates, so-webhook, SBOMs and checksums.

Two builds of a commit are byte-identical, also in different folders: paths are remapped, and zip entries have a fixed
order and timestamp. The same Rust toolchain and the versions in requirements-release.txt are required for this.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import sbom

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
TARGET = ROOT / "target/dist"
CARGO = os.environ.get("CARGO", "cargo")
# Name of the template in dist/, and its source.
TEMPLATES = {
    "template": Path("template.yaml"),
    "consumer": Path("examples/consumer/template.yaml"),
    "mirror": Path("mirror/template.yaml"),
    "watchdog": Path("watchdog/template.yaml"),
    "fallback": Path("fallback/template.yaml"),
}
SUMS = "SHA256SUMS"
LICENSES = ("LICENSE-APACHE", "LICENSE-MIT")
# The first timestamp that a zip file can contain.
ZIP_EPOCH = 315532800


class DistError(Exception):
    """A release that cannot be built. The text states the reason."""


@dataclass(frozen=True)
class Architecture:
    """A processor of AWS Lambda."""

    name: str
    target: str
    # The same processor as in cargo-lambda, whose own flag is overridden.
    cpu: str

    def installed(self) -> bool:
        """Returns `True` if the Rust target is installed."""
        return Path(output("rustc", "--print", "target-libdir", "--target", self.target).strip()).is_dir()


X86_64 = Architecture("x86_64", "x86_64-unknown-linux-gnu", "haswell")
ARM64 = Architecture("arm64", "aarch64-unknown-linux-gnu", "neoverse-n1")
ARCHITECTURES = {architecture.name: architecture for architecture in (X86_64, ARM64)}


@dataclass(frozen=True)
class Binary:
    """A program of a package in the workspace."""

    package: str
    name: str

    def zip_name(self, architecture: Architecture) -> str:
        return f"{self.name}-{architecture.name}.zip"


# The program for operators. It is released as an executable file, and the others as zip files for Lambda.
COMMAND = Binary("so-webhook", "so-webhook")

# Builds a binary for an architecture and returns its content.
Build = Callable[[Binary, Architecture], bytes]


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def source_date() -> datetime:
    """Returns the timestamp of all files: SOURCE_DATE_EPOCH, or 1980-01-01."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or ZIP_EPOCH)
    return datetime.fromtimestamp(max(seconds, ZIP_EPOCH), timezone.utc)


# --- Templates ------------------------------------------------------------------------------------------------------


def template_name(name: str, architecture: Architecture) -> str:
    """Returns the file name of a template. x86_64 has no suffix: it is the template's default."""
    return f"{name}.yaml" if architecture is X86_64 else f"{name}-{architecture.name}.yaml"


def replace_once(text: str, pattern: str, replacement: str) -> str:
    """Replaces whole lines. A template that is not written as expected is an error."""
    changed, count = re.subn(f"^{pattern}\n", replacement, text, flags=re.MULTILINE)
    if count != 1:
        raise DistError(f"expected the lines {pattern!r} once, found {count}")
    return changed


def has_function(template: str) -> bool:
    """Returns `True` unless a template only has resources that need no code."""
    return "AWS::Serverless::Function" in template


def binary_of(template: str) -> str:
    """Returns the name of the binary of a template's function."""
    names = re.findall(r"^      BuildProperties: \{Binary: (.+)\}$", template, re.MULTILINE)
    if len(names) != 1:
        raise DistError(f"expected BuildProperties with one Binary, found {names}")
    return names[0]


def use_code(template: str, code: str) -> str:
    """Returns a template whose function is this folder or zip file instead of a package to build."""
    template = replace_once(template, r"      BuildMethod: rust-cargolambda\n      BuildProperties: \{Binary: .+\}", "")
    return replace_once(template, r"      CodeUri: \.", f"      CodeUri: {code}\n")


def use_architecture(template: str, name: str) -> str:
    """Returns a template that accepts one architecture."""
    lines = r"    AllowedValues: \[x86_64, arm64\]\n    Default: x86_64"
    return replace_once(template, lines, f"    AllowedValues: [{name}]\n    Default: {name}\n")


def use_release(template: str, version: str) -> str:
    """Returns a template that names its version as an output, and the addresses of its pages in alarms."""
    output = f"Outputs:\n  Version:\n    Description: The release of this template\n    Value: {version}\n"
    template = replace_once(template, "Outputs:", output)
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        template = template.replace("docs/runbooks/", f"https://github.com/{repository}/blob/v{version}/docs/runbooks/")
    return template


# --- Binaries -------------------------------------------------------------------------------------------------------


def workspace() -> dict:
    return json.loads(output(CARGO, "metadata", "--format-version=1", "--locked"))


def rust_flags(metadata: dict, architecture: Architecture) -> list[str]:
    """Returns compiler flags that keep the machine's paths out of the binary."""
    version = dict(line.split(": ", 1) for line in output("rustc", "-vV").splitlines() if ": " in line)
    sysroot = output("rustc", "--print", "sysroot").strip()
    # The compiler uses the last prefix that matches.
    prefixes = {str(ROOT): "/workspace", str(TARGET): "/target"}
    for package in metadata["packages"]:
        if package["source"]:
            prefixes[str(Path(package["manifest_path"]).parent.parent)] = "/registry"
    prefixes[f"{sysroot}/lib/rustlib/src/rust"] = f"/rustc/{version['commit-hash']}"
    return ["-Ctarget-cpu=" + architecture.cpu] + [f"--remap-path-prefix={old}={new}" for old, new in prefixes.items()]


class CargoLambda:
    """Builds binaries with cargo-lambda, as `sam build` does, and with remapped paths."""

    def __init__(self, metadata: dict, profile: str) -> None:
        self.metadata = metadata
        self.profile = profile

    def __call__(self, binary: Binary, architecture: Architecture) -> bytes:
        folder = TARGET / "lambda" / architecture.name
        command = [
            *(CARGO, "lambda", "build", "--locked", "--profile", self.profile, "--target", architecture.target),
            *("--package", binary.package, "--bin", binary.name, "--lambda-dir", str(folder)),
        ]
        environment = {
            **os.environ,
            # cargo-lambda and zig are installed next to this Python.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CARGO_TARGET_DIR": str(TARGET),
            # Takes precedence over the flags in all configuration files.
            "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(rust_flags(self.metadata, architecture)),
        }
        subprocess.run(command, cwd=ROOT, check=True, env=environment)
        return (folder / binary.name / "bootstrap").read_bytes()


def write_zip(path: Path, binary: bytes) -> None:
    """Writes the zip file of a function. Equal binaries become equal files."""
    entry = zipfile.ZipInfo("bootstrap", source_date().timetuple()[:6])
    entry.create_system = 3  # Unix: Lambda needs the permission to execute
    entry.external_attr = (stat.S_IFREG | 0o755) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, binary, compresslevel=9)


# --- Release --------------------------------------------------------------------------------------------------------


def release(folder: Path, metadata: dict, architectures: list[Architecture], build: Build) -> None:
    """Writes all files of a release into an empty folder. `metadata` is the output of `cargo metadata`."""
    packages = {
        Path(package["manifest_path"]).parent: package["name"]
        for package in metadata["packages"]
        if not package["source"]
    }
    version = next(package["version"] for package in metadata["packages"] if package["name"] == "superoffice-webhook")
    inventories = []
    sources = {name: ROOT / source for name, source in TEMPLATES.items() if (ROOT / source).exists()}
    for architecture in architectures:
        binaries = {COMMAND}
        for name, source in sources.items():
            text = source.read_text(encoding="utf-8")
            relative = source.relative_to(ROOT).as_posix()
            target = f" for {architecture.name}" if has_function(text) else ""
            header = f"# superoffice-webhook {version}{target}, built from {relative}.\n"
            try:
                text = header + use_release(text, version)
                if target:
                    binary = Binary(packages[source.parent], binary_of(text))
                    text = use_architecture(use_code(text, binary.zip_name(architecture)), architecture.name)
                    binaries.add(binary)
            except DistError as error:
                raise DistError(f"{relative}: {error}") from None
            file = template_name(name, architecture) if target else f"{name}.yaml"
            (folder / file).write_text(text, encoding="utf-8")
        for binary in sorted(binaries, key=lambda binary: binary.name):
            content = build(binary, architecture)
            if binary == COMMAND:
                file = folder / f"{binary.name}-{architecture.name}"
                file.write_bytes(content)
                file.chmod(0o755)
            else:
                file = folder / binary.zip_name(architecture)
                write_zip(file, content)
            inventory = sbom.Inventory.of(metadata, ROOT, binary.package, architecture.target)
            document = inventory.cyclonedx(binary.name, hashlib.sha256(content).hexdigest(), source_date())
            file.with_suffix(".cdx.json").write_text(document, encoding="utf-8")
            inventories.append(inventory)

    (folder / "THIRD-PARTY-LICENSES.txt").write_text(sbom.license_texts(inventories), encoding="utf-8")
    for name in LICENSES:
        shutil.copyfile(ROOT / name, folder / name)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(sums))


def released(folder: Path) -> list[str]:
    """Returns the names in the checksum file of a release, or an empty list if there is none."""
    sums = folder / SUMS
    return [line.split(maxsplit=1)[1] for line in sums.read_text().splitlines()] if sums.exists() else []


def replace(old: Path, new: Path) -> None:
    """Replaces the files of a release, and keeps all others: SAM can write samconfig.toml there."""
    old.mkdir(exist_ok=True)
    for name in released(old):
        (old / name).unlink(missing_ok=True)
    for path in new.iterdir():
        path.replace(old / path.name)


def selected(names: list[str]) -> list[Architecture]:
    """Returns the named architectures, or all whose Rust target is installed."""
    if unknown := set(names) - ARCHITECTURES.keys():
        raise DistError(f"{', '.join(sorted(unknown))}: expected {' or '.join(ARCHITECTURES)}")
    if not names:
        installed = [architecture for architecture in ARCHITECTURES.values() if architecture.installed()]
        if not installed:
            raise DistError(f"no Rust target is installed: rustup target add {X86_64.target}")
        return installed
    for architecture in (ARCHITECTURES[name] for name in names):
        if not architecture.installed():
            raise DistError(f"{architecture.name}: run `rustup target add {architecture.target}`")
    return [architecture for architecture in ARCHITECTURES.values() if architecture.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", help="default: all whose Rust target is installed")
    parser.add_argument("--profile", default="release", help="the Cargo profile (default: %(default)s)")
    arguments = parser.parse_args()
    TARGET.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=TARGET) as folder:
            metadata = workspace()
            build = CargoLambda(metadata, arguments.profile)
            release(Path(folder), metadata, selected(arguments.architectures), build)
            replace(DIST, Path(folder))
    except DistError as error:
        sys.exit(f"make dist: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"make dist: {error.cmd[0]} failed with exit status {error.returncode}")
    for name in (SUMS, *released(DIST)):
        print(f"{(DIST / name).stat().st_size:>10,}  dist/{name}")


if __name__ == "__main__":
    main()
