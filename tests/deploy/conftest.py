"""Fixtures of the deployment tests."""

from collections.abc import Iterator
from pathlib import Path

import deployment
import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:Tried to parse .* not supported by moto")


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
