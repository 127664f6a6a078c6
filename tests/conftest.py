"""Fixtures of all Python tests: one local AWS, and the programs, built without optimization."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import emf
import pytest
from local_aws import LocalAws, stripped
from processes import build


class CheckedAws(LocalAws):
    """A local AWS that validates the metrics in every log line that a test reads."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._checked: dict[str, int] = {}

    def log_lines(self, group: str) -> list[dict]:
        lines = super().log_lines(group)
        for line in lines[self._checked.get(group, 0) :]:
            if "_aws" in line:
                emf.validate(line)
        self._checked[group] = len(lines)
        return lines


# The files whose tests take longest. Each of four processes begins with one of the first four, so that none ends late.
# pytest-xdist hands out another file at once if the first has at most two tests, so the fifth file is a short one.
LONGEST = ("test_release", "test_consumers", "test_mirror", "test_demo", "test_official_client", "test_watchdog")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with CheckedAws(tmp_path_factory.mktemp("aws")) as aws, pytest.MonkeyPatch.context() as patch:
        # Clients in this process trust the local AWS's certificate.
        patch.setitem(os.environ, "SSL_CERT_FILE", str(aws.ca_file))
        # An operator's secret would replace that of the samples.
        patch.delenv("SUPEROFFICE_WEBHOOK_SECRET", raising=False)
        yield aws


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The programs by name."""
    names, folder = ("superoffice-webhook", "consumer", "so-webhook"), tmp_path_factory.mktemp("programs")
    return {name: stripped(binary, folder / name) for name, binary in zip(names, build(*names), strict=True)}


@pytest.fixture(scope="session")
def binary(programs: dict[str, Path]) -> Path:
    """The function."""
    return programs["superoffice-webhook"]
