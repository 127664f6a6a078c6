"""A release, deployed: `sam deploy` with the templates and zip files of `make dist`, and without any build tool."""

import base64
import hashlib

import make_dist
import pytest
from cloud import Webhook, wait_for
from deliveries import encode, event
from sam_stack import ARCHITECTURE, SamStack
from signing import SAMPLE_SECRET


@pytest.fixture(scope="module")
def release(tmp_path_factory, programs):
    """A release whose binaries are not optimized."""
    folder = tmp_path_factory.mktemp("release")

    def build(binary: make_dist.Binary, _architecture: make_dist.Architecture) -> bytes:
        return programs[binary.name].read_bytes()

    # Without the watchdog and the mirror, which take minutes to compile.
    slow = ("watchdog", "mirror")
    templates = {name: source for name, source in make_dist.TEMPLATES.items() if name not in slow}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_dist, "TEMPLATES", templates)
        make_dist.release(folder, make_dist.workspace(), [make_dist.ARCHITECTURES[ARCHITECTURE]], build)
    return folder


def test_release_is_deployed_without_build_tools(aws, release):
    template = make_dist.template_name("template", make_dist.ARCHITECTURES[ARCHITECTURE])
    stack = SamStack(aws, "release", release / template, environment={"PATH": ""})
    webhook = Webhook(stack.deploy(WebhookSecret=SAMPLE_SECRET))
    body = encode(event())

    assert webhook.outcome(body) == (200, "forwarded")

    assert [message["Body"].encode() for message in webhook.queue().drain()] == [body]
    assert code_hash(aws, stack) == file_hash(release / f"superoffice-webhook-{ARCHITECTURE}.zip")

    template = make_dist.template_name("consumer", make_dist.ARCHITECTURES[ARCHITECTURE])
    consumer = SamStack(aws, "release-consumer", release / template, environment={"PATH": ""})
    consumer.deploy(QueueArn=webhook.outputs["QueueArn"])
    assert webhook.outcome(event()) == (200, "forwarded")
    wait_for(lambda: webhook.queue().count == 0)
    assert code_hash(aws, consumer) == file_hash(release / f"consumer-{ARCHITECTURE}.zip")


def code_hash(aws, stack: SamStack) -> str:
    function = stack.outputs["FunctionName"]
    return aws.client("lambda").get_function_configuration(FunctionName=function)["CodeSha256"]


def file_hash(path) -> str:
    return base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
