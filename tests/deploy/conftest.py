"""Fixtures of the deployment tests: one stack of template.yaml in the local AWS.

A test that changes the stack restores it, or deploys its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cloud import Webhook
from local_aws import LocalAws
from sam_stack import ARCHITECTURE, CONSUMER_TEMPLATE, TEMPLATE, SamStack, dev_build
from signing import SAMPLE_SECRET


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """template.yaml with the function's binary, built without optimization."""
    return dev_build(TEMPLATE, tmp_path_factory.mktemp("function"))


@pytest.fixture(scope="session")
def consumer_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dev_build(CONSUMER_TEMPLATE, tmp_path_factory.mktemp("consumer"))


@pytest.fixture(scope="session")
def deployed_webhook(aws: LocalAws, template: Path) -> Webhook:
    stack = SamStack(aws, "webhook", template)
    return Webhook(stack.deploy(WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE))


@pytest.fixture(scope="module")
def webhook(deployed_webhook: Webhook) -> Webhook:
    """The stack of template.yaml, without messages of other files' tests."""
    for output in ("QueueUrl", "QuarantineQueueUrl"):
        deployed_webhook.queue(output).purge()
    return deployed_webhook
