"""The software bill of materials (CycloneDX) and the license texts of a Rust binary.

Components are the crates that Cargo compiles for the binary, as `cargo tree` lists them: without the dependencies of
tests and of other workspace members, whose features `cargo metadata` merges.
"""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

CARGO = os.environ.get("CARGO", "cargo")
LICENSE_FILE = re.compile(r"(un)?(licen[cs]e|copying|copyright|notice)([-_.](?!rs$|json$).*)?", re.IGNORECASE)

# Name and version.
Crate = tuple[str, str]


@dataclass(frozen=True)
class Inventory:
    """The crates of a binary."""

    root: Crate
    # Each crate with its direct dependencies; build scripts and procedural macros are included.
    dependencies: dict[Crate, set[Crate]]
    # The crates whose code is part of the binary.
    linked: set[Crate]
    # Each crate's entry in the output of `cargo metadata`, and the checksum of its archive.
    packages: dict[Crate, dict]
    checksums: dict[Crate, str]

    @classmethod
    def of(cls, metadata: dict, workspace: Path, package: str, target: str) -> Inventory:
        """Returns the crates of a package's binary for a target."""

        def tree(edges: str) -> list[tuple[int, Crate]]:
            lines = subprocess.run(
                [CARGO, "tree", "--locked", "--package", package, "--edges", edges, "--target", target]
                + ["--charset", "ascii", "--prefix", "depth", "--format", " {p}"],
                cwd=workspace,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout.splitlines()
            return [
                (int(depth), (name, version.removeprefix("v")))
                for depth, name, version in (line.split()[:3] for line in lines)
            ]

        compiled = tree("normal,build")
        dependencies: dict[Crate, set[Crate]] = {}
        path: list[Crate] = []
        for depth, crate in compiled:
            dependencies.setdefault(crate, set())
            path[depth:] = [crate]
            if depth:
                dependencies[path[depth - 1]].add(crate)
        # Cargo writes the fields of a package in this order, one a line.
        checksums = re.findall(
            r'^name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(\w+)"$',
            (workspace / "Cargo.lock").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        return cls(
            root=compiled[0][1],
            dependencies=dependencies,
            linked={crate for _, crate in tree("normal,no-proc-macro")},
            packages={(package["name"], package["version"]): package for package in metadata["packages"]},
            checksums={(name, version): checksum for name, version, checksum in checksums},
        )

    def cyclonedx(self, binary: str, sha256: str, timestamp: datetime) -> str:
        """Returns the CycloneDX document of a binary. Equal arguments result in equal documents."""
        components = {crate: self._component(crate) for crate in sorted(self.dependencies)}
        root = components.pop(self.root)
        root.name, root.type, root.scope = binary, ComponentType.APPLICATION, None
        root.hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
        bom = Bom(
            serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{root.purl}#{sha256}"),
            metadata=BomMetaData(component=root, timestamp=timestamp),
            components=components.values(),
        )
        components[self.root] = root
        for crate, dependencies in self.dependencies.items():
            bom.register_dependency(components[crate], [components[dependency] for dependency in dependencies])
        return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"

    def _component(self, crate: Crate) -> Component:
        name, version = crate
        package = self.packages[crate]
        purl = PackageURL("cargo", None, name, version)
        component = Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=str(purl),
            purl=purl,
            description=" ".join((package["description"] or "").split()) or None,
            scope=ComponentScope.REQUIRED if crate in self.linked else ComponentScope.EXCLUDED,
        )
        if package["license"]:
            # Old manifests separate alternatives with a slash.
            expression = re.sub(r"\s*/\s*", " OR ", package["license"])
            component.licenses = [LicenseFactory().make_from_string(expression)]
        if checksum := self.checksums.get(crate):
            component.hashes = [HashType(alg=HashAlgorithm.SHA_256, content=checksum)]
        if package["repository"]:
            vcs = ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(package["repository"]))
            component.external_references = [vcs]
        return component


def license_texts(inventories: Iterable[Inventory]) -> str:
    """Returns the license files of all third-party crates in the binaries. Equal texts appear once."""
    crates: dict[Crate, dict] = {}
    for inventory in inventories:
        crates |= {crate: inventory.packages[crate] for crate in inventory.linked}
    texts: dict[str, list[str]] = {}
    for (name, version), package in sorted(crates.items()):
        if not package["source"]:
            continue
        title = f"{name} {version} ({package['license']})"
        folder = Path(package["manifest_path"]).parent
        files = sorted(path for path in folder.rglob("*") if path.is_file() and LICENSE_FILE.fullmatch(path.name))
        for path in files:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            texts.setdefault(text, []).append(f"{title}: {path.relative_to(folder).as_posix()}")
        if not files:
            authors = ", ".join(package["authors"]) or package["repository"]
            texts.setdefault("", []).append(f"{title}: no license file in the crate; by {authors}")
    rule = "-" * 120
    return "".join(
        "\n".join([rule, *titles, rule, "", *([text, "", ""] if text else [""])])
        for text, titles in sorted(texts.items(), key=lambda item: item[1])
    )
