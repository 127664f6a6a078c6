"""The commands in the documents, and those that no test runs."""

from __future__ import annotations

import re
from pathlib import Path

from processes import ROOT

DOCUMENTS = sorted(path for pattern in ("*.md", "docs/**/*.md", "tests/*.md") for path in ROOT.glob(pattern))

# The blocks of commands that no test runs, by document and first words, each with the reason.
MAKE = "`make test` and `make lint` run in CI; a test that runs make would run itself"
BUILD = "it compiles with optimization, for minutes; CI runs `make build`"
REAL = "it needs a real SuperOffice installation"
GITHUB = "it needs GitHub"
LIST = "it needs a system user; cli/tests/it/tenants.rs runs the commands with a list"
NOT_RUN = {
    "CONTRIBUTING.md": {
        "make check": MAKE,
        "export SUPEROFFICE_WEBHOOK_SECRET": "`cargo lambda watch` compiles and never ends",
    },
    "README.md": {"$ make demo": MAKE},
    "docs/administration.md": {
        "$ so-webhook bootstrap": "the shown run takes hours; cli/tests/it/bootstrap.rs runs the command",
        "$ so-webhook missed": "it shows an output; the command of docs/runbooks/missed-events.md is run",
        "export SUPEROFFICE_TENANTS_PARAMETER": LIST,
        "so-webhook conformance": "it takes minutes; cli/tests/it/conformance.rs runs the command",
    },
    "docs/consumers.md": {"cd examples/python": "`sam local` needs Docker, and `sam build` a package registry"},
    "docs/deployment.md": {
        "for file in dist/*; do gh attestation": GITHUB,
        "make deploy-local": "it runs until Ctrl-C; the tests deploy with its code",
        "make build": BUILD,
    },
    "docs/entities.md": {
        "so-webhook register --events": "it shows an option; cli/tests/it/ registers events of entities"
    },
    "docs/mirror.md": {'PATH="$PWD/.tools': BUILD},
    "docs/runbooks/dead-letters.md": {"DEAD_LETTERS=": "the local AWS has no tasks that move messages"},
    "docs/runbooks/reactivate-webhook.md": {"printf 'Authorization": REAL},
    "docs/tenants.md": {
        "export SUPEROFFICE_TENANT=": REAL,
        "export SUPEROFFICE_TENANTS_PARAMETER": LIST,
    },
    "docs/upgrade.md": {
        "aws cloudformation describe-stack-events": "it needs a rollback that failed; the local AWS has none",
        "aws cloudformation delete-stack": "it needs a first deployment that failed; test_lifecycle.py has one",
    },
    "docs/watchdog.md": {'PATH="$PWD/.tools': BUILD},
}


def blocks(document: Path, language: str) -> list[str]:
    """Returns the document's code blocks in a language, without their indentation."""
    return blocks_of(document.read_text(), language)


def blocks_of(text: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.S | re.M)
    return [re.sub(rf"^{indentation}", "", code, flags=re.M) for indentation, code in found]


def shell_blocks(document: Path) -> list[str]:
    return [*blocks(document, "sh"), *blocks(document, "console")]


def block(document: str, beginning: str, language: str = "sh") -> str:
    """Returns the block of a document that begins with these words."""
    found = {code for code in blocks(ROOT / document, language) if code.startswith(beginning)}
    assert len(found) == 1, f"{document} has {len(found)} blocks that begin with {beginning!r}"
    return found.pop()
