"""Fixtures of the deployment tests: one local AWS for all of them, and in it one stack of template.yaml.

A test that changes the stack restores it, or deploys its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud import Webhook
from local_aws import LocalAws
from sam_stack import ARCHITECTURE, CONSUMER_TEMPLATE, TEMPLATE, SamStack, dev_build
from signing import SAMPLE_SECRET


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(tmp_path_factory.mktemp("aws")) as aws, pytest.MonkeyPatch.context() as patch:
        # Clients in this process trust the local AWS's certificate.
        patch.setitem(os.environ, "SSL_CERT_FILE", str(aws.ca_file))
        # An operator's secret would replace that of the samples in `make smoke`.
        patch.delenv("SUPEROFFICE_WEBHOOK_SECRET", raising=False)
        yield aws


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """template.yaml with the function's binary, built without optimization."""
    return dev_build(TEMPLATE, "superoffice-webhook", tmp_path_factory.mktemp("function"))


@pytest.fixture(scope="session")
def binary(template: Path) -> Path:
    return template.parent / "superoffice-webhook/bootstrap"


@pytest.fixture(scope="session")
def consumer_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dev_build(CONSUMER_TEMPLATE, "consumer", tmp_path_factory.mktemp("consumer"))


@pytest.fixture(scope="session")
def webhook(aws: LocalAws, template: Path) -> Webhook:
    stack = SamStack(aws, "webhook", template)
    return Webhook(stack.deploy(WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE))
