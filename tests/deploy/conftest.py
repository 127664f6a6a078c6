"""Fixtures of the deployment tests."""

from collections.abc import Iterator
from pathlib import Path

import deployment
import pytest


@pytest.fixture(scope="session")
def binary() -> Path:
    return deployment.build_binary()


@pytest.fixture(scope="session")
def template() -> dict:
    return deployment.expanded_template()


@pytest.fixture
def aws() -> Iterator[deployment.Aws]:
    aws = deployment.Aws()
    yield aws
    aws.close()
