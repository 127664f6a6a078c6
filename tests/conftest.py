"""Fixtures of all Python tests: one local AWS, and the programs, built without optimization."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_aws import LocalAws, stripped
from processes import build


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(tmp_path_factory.mktemp("aws")) as aws, pytest.MonkeyPatch.context() as patch:
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
