"""`make dist`: templates, zip files and inventories of a release, with small files in place of compiled binaries."""

import copy
import difflib
import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path

import make_dist as dist
import pytest
import sbom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from local_aws import REGION, run_sam
from samcli.yamlhelper import yaml_parse

BOTH = [dist.X86_64, dist.ARM64]
TEMPLATES = {name: source for name, source in dist.TEMPLATES.items() if (dist.ROOT / source).exists()}

WITH_FUNCTION = [name for name, source in TEMPLATES.items() if dist.has_function((dist.ROOT / source).read_text())]
VERSION = dist.output(dist.CARGO, "pkgid").strip().rpartition("#")[2].rpartition("@")[2]


def fake_build(binary: dist.Binary, architecture: dist.Architecture) -> bytes:
    return f"{binary.package} {binary.name} {architecture.target}\n".encode() * 1000


@pytest.fixture(scope="module")
def metadata() -> dict:
    return dist.workspace()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, metadata: dict) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    dist.release(folder, metadata, BOTH, fake_build)
    return folder


@pytest.fixture(scope="module")
def inventory(metadata: dict) -> sbom.Inventory:
    return sbom.Inventory.of(metadata, dist.ROOT, "superoffice-webhook", dist.X86_64.target)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- All files ------------------------------------------------------------------------------------------------------


def test_release_contains_a_zip_an_sbom_and_a_template_for_each_architecture(release):
    expected = {"SHA256SUMS", "THIRD-PARTY-LICENSES.txt", "LICENSE-APACHE", "LICENSE-MIT"}
    for architecture in BOTH:
        for name in ("superoffice-webhook", *(name for name in WITH_FUNCTION if name != "template")):
            expected |= {f"{name}-{architecture.name}.zip", f"{name}-{architecture.name}.cdx.json"}
        expected |= {f"so-webhook-{architecture.name}", f"so-webhook-{architecture.name}.cdx.json"}
    for name in TEMPLATES:
        expected |= {f"{name}.yaml", f"{name}-arm64.yaml"} if name in WITH_FUNCTION else {f"{name}.yaml"}

    assert names(release) == expected
    assert (release / "so-webhook-arm64").read_bytes() == fake_build(dist.COMMAND, dist.ARM64)
    assert (release / "so-webhook-arm64").stat().st_mode & 0o111


def test_second_release_is_byte_identical(release, metadata, tmp_path):
    dist.release(tmp_path, metadata, BOTH, fake_build)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in release.iterdir()
    }


def test_release_does_not_contain_paths_of_the_machine(release):
    home = {f"{Path.home()}/"} - {"//"}
    for path in release.iterdir():
        content = path.read_bytes()
        assert [text for text in {str(dist.ROOT), *home} if text.encode() in content] == [], path.name


def test_checksums_cover_all_other_files(release):
    assert set(dist.released(release)) == names(release) - {"SHA256SUMS"}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=release, check=True)


def test_replaced_release_keeps_files_of_the_user(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, zip_name in ((old, "consumer-arm64.zip"), (new, "consumer-x86_64.zip")):
        folder.mkdir()
        (folder / zip_name).touch()
        (folder / "SHA256SUMS").write_text(f"{'0' * 64}  {zip_name}\n")
    (old / "samconfig.toml").touch()

    dist.replace(old, new)

    assert names(old) == {"SHA256SUMS", "consumer-x86_64.zip", "samconfig.toml"}


# --- Zip files ------------------------------------------------------------------------------------------------------


def test_zip_contains_an_executable_with_a_fixed_timestamp(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    dist.write_zip(tmp_path / "function.zip", b"binary")

    with zipfile.ZipFile(tmp_path / "function.zip") as archive:
        (entry,) = archive.infolist()
        assert archive.read(entry) == b"binary"
    assert entry.filename == "bootstrap"
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    assert entry.external_attr >> 16 == 0o100755
    assert (entry.create_system, entry.compress_type) == (3, zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [("1764000000", (2025, 11, 24, 16, 0, 0)), ("0", (1980, 1, 1, 0, 0, 0)), ("", (1980, 1, 1, 0, 0, 0))],
)
def test_zip_has_the_timestamp_of_source_date_epoch_in_utc(tmp_path, monkeypatch, epoch, expected):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    dist.write_zip(tmp_path / "function.zip", b"binary")

    with zipfile.ZipFile(tmp_path / "function.zip") as archive:
        assert archive.infolist()[0].date_time == expected


# --- Templates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", BOTH, ids=lambda architecture: architecture.name)
@pytest.mark.parametrize("name", WITH_FUNCTION)
def test_template_differs_in_code_and_architecture_only(release, name, architecture):
    source = yaml_parse((dist.ROOT / TEMPLATES[name]).read_text())
    transformed = yaml_parse((release / dist.template_name(name, architecture)).read_text())

    expected = copy.deepcopy(source)
    expected["Outputs"]["Version"] = {"Description": "The release of this template", "Value": VERSION}
    expected["Outputs"].move_to_end("Version", last=False)
    expected["Parameters"]["Architecture"]["Default"] = architecture.name
    expected["Parameters"]["Architecture"]["AllowedValues"] = [architecture.name]
    functions = {
        name: resource
        for name, resource in expected["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert functions
    for resource in functions.values():
        del resource["Metadata"]["BuildMethod"]
        binary = resource["Metadata"].pop("BuildProperties")["Binary"]
        if not resource["Metadata"]:
            del resource["Metadata"]
        resource["Properties"]["CodeUri"] = f"{binary}-{architecture.name}.zip"
        assert (release / resource["Properties"]["CodeUri"]).exists()
    assert transformed == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_keeps_all_other_lines(release, name):
    source = (dist.ROOT / TEMPLATES[name]).read_text().splitlines()
    header, *transformed = (release / f"{name}.yaml").read_text().splitlines()

    target = " for x86_64" if name in WITH_FUNCTION else ""
    assert header == f"# superoffice-webhook {VERSION}{target}, built from {TEMPLATES[name]}."
    changed = [line[2:].strip() for line in difflib.ndiff(source, transformed) if line[0] in "+-"]
    keys = {
        "Metadata",
        "BuildMethod",
        "BuildProperties",
        "CodeUri",
        "AllowedValues",
        "Default",
        "Version",
        "Description",
        "Value",
    }
    assert {line.split(":")[0] for line in changed} <= keys


def test_alarms_of_a_release_on_github_name_the_address_of_their_page(monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/repository")
    source = (dist.ROOT / "template.yaml").read_text()
    address = f"https://github.com/owner/repository/blob/v{VERSION}/docs/runbooks/"
    released = dist.use_release(source, VERSION)
    assert released.count(address) == source.count("docs/runbooks/") >= 20


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("rust-cargolambda", "makefile", "BuildMethod"),
        ("{Binary: superoffice-webhook}", "{}", "BuildProperties with one Binary"),
        ("CodeUri: .", "CodeUri: src", "CodeUri"),
        ("CodeUri: .\n", "CodeUri: .\n      CodeUri: .\n", "CodeUri"),
        ("[x86_64, arm64]", "[arm64, x86_64]", "AllowedValues"),
    ],
)
def test_template_that_is_not_written_as_expected_is_an_error(old, new, problem):
    text = (dist.ROOT / "template.yaml").read_text()
    assert old in text
    with pytest.raises(dist.DistError, match=f"expected .*{problem}"):
        text = text.replace(old, new)
        dist.use_architecture(dist.use_code(text, f"{dist.binary_of(text)}.zip"), "arm64")


def test_sam_uploads_the_zip_as_it_is(release, aws, tmp_path):
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    packaged = tmp_path / "packaged.yaml"
    arguments = ["package", "--s3-bucket", "code", "--template-file", str(release / "template-arm64.yaml")]
    # Without a PATH, SAM finds neither Rust nor zig nor make.
    environment = {**aws.client_environment, "PATH": ""}
    assert run_sam([*arguments, "--output-template-file", str(packaged)], environment).returncode == 0
    uri = yaml_parse(packaged.read_text())["Resources"]["WebhookFunction"]["Properties"]["CodeUri"]
    uploaded = s3.get_object(Bucket="code", Key=uri.removeprefix("s3://code/"))["Body"].read()
    assert uploaded == (release / "superoffice-webhook-arm64.zip").read_bytes()


# --- Architectures --------------------------------------------------------------------------------------------------


def test_architectures_default_to_the_installed_targets(monkeypatch):
    monkeypatch.setattr(dist.Architecture, "installed", lambda self: self is dist.X86_64)

    assert dist.selected([]) == [dist.X86_64]
    assert dist.selected(["x86_64"]) == [dist.X86_64]
    with pytest.raises(dist.DistError, match="arm64: run `rustup target add aarch64-unknown-linux-gnu`"):
        dist.selected(["arm64", "x86_64"])
    with pytest.raises(dist.DistError, match="riscv: expected x86_64 or arm64"):
        dist.selected(["riscv"])


def test_compiler_flags_remap_every_folder_of_the_build(metadata):
    flags = dist.rust_flags(metadata, dist.ARM64)

    assert flags[0] == "-Ctarget-cpu=neoverse-n1"
    prefixes = dict(flag.removeprefix("--remap-path-prefix=").split("=") for flag in flags[1:])
    assert prefixes[str(dist.ROOT)] == "/workspace"
    # The last prefix that matches is used, and the target folder is inside the workspace.
    assert list(prefixes).index(str(dist.TARGET)) > list(prefixes).index(str(dist.ROOT))
    for package in metadata["packages"]:
        assert any(package["manifest_path"].startswith(f"{prefix}/") for prefix in prefixes), package["name"]


# --- Inventories ----------------------------------------------------------------------------------------------------


def test_sbom_is_valid_cyclonedx(release):
    for path in release.glob("*.cdx.json"):
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None, path.name


def test_sbom_names_the_binary_by_its_hash(release):
    document = json.loads((release / "superoffice-webhook-arm64.cdx.json").read_text())

    binary = hashlib.sha256(fake_build(dist.Binary("superoffice-webhook", "superoffice-webhook"), dist.ARM64))
    component = document["metadata"]["component"]
    assert (component["type"], component["name"]) == ("application", "superoffice-webhook")
    assert component["hashes"] == [{"alg": "SHA-256", "content": binary.hexdigest()}]
    assert document["metadata"]["timestamp"] == dist.source_date().isoformat()


def test_sbom_lists_each_compiled_crate_with_its_checksum(release, inventory):
    document = json.loads((release / "superoffice-webhook-x86_64.cdx.json").read_text())

    components = {component["purl"]: component for component in document["components"]}
    assert len(components) == len(inventory.dependencies) - 1
    for purl, component in components.items():
        assert purl == f"pkg:cargo/{component['name']}@{component['version']}"
        assert component["licenses"], purl
        # A crate of this workspace has no archive.
        if inventory.packages[component["name"], component["version"]]["source"]:
            (checksum,) = component["hashes"]
            assert re.fullmatch(r"[0-9a-f]{64}", checksum["content"]), purl
    scopes = {component["name"]: component["scope"] for component in components.values()}
    assert (scopes["ring"], scopes["aws-sdk-sqs"]) == ("required", "required")
    # Used during compilation only.
    assert (scopes["cc"], scopes["serde_derive"]) == ("excluded", "excluded")
    # Dependencies of the tests.
    assert not scopes.keys() & {"jsonschema", "proptest", "tempfile", "aws-smithy-mocks"}


def test_sbom_contains_the_dependency_graph(release):
    document = json.loads((release / "superoffice-webhook-x86_64.cdx.json").read_text())

    graph = {entry["ref"]: set(entry.get("dependsOn", [])) for entry in document["dependencies"]}
    root = document["metadata"]["component"]["bom-ref"]
    reachable, queue = set(), [root]
    while queue:
        ref = queue.pop()
        if ref not in reachable:
            reachable.add(ref)
            queue.extend(graph[ref])
    assert reachable == {root, *(component["bom-ref"] for component in document["components"])}


def test_consumer_does_not_contain_the_dependencies_of_the_function(release):
    document = json.loads((release / "consumer-x86_64.cdx.json").read_text())

    crates = {component["name"] for component in document["components"]}
    assert "superoffice-webhook" in crates
    assert "lambda_http" not in crates


def test_licenses_name_every_linked_crate(release, inventory):
    text = (release / "THIRD-PARTY-LICENSES.txt").read_text()

    third_party = {crate for crate in inventory.linked if inventory.packages[crate]["source"]}
    assert len(third_party) > 100
    for name, version in third_party:
        assert re.search(rf"^{re.escape(f'{name} {version} (')}", text, re.MULTILINE), name
    assert "Permission is hereby granted, free of charge" in text
