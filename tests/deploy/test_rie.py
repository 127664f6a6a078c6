"""The binary under AWS's own Runtime Interface Emulator, which aws-sam-cli contains.

It is a second witness of the Runtime API, next to MiniStack's and the one in tests/support.
"""

import json
import platform
import stat
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import samcli.local.rapid
from deliveries import delivery, event
from processes import Child, base_environment, free_ports, opener
from signing import SAMPLE_SECRET

RIE = (
    Path(samcli.local.rapid.__path__[0]) / f"aws-lambda-rie-{'arm64' if platform.machine() == 'aarch64' else 'x86_64'}"
)


@pytest.fixture
def emulator(binary, aws, tmp_path):
    """Starts the binary with these variables and returns a function that invokes it."""
    if not RIE.exists():
        pytest.skip(f"aws-sam-cli contains no {RIE.name}")
    children = []

    def start(**variables: str):
        executable = tmp_path / "aws-lambda-rie"
        executable.write_bytes(RIE.read_bytes())
        executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
        address, runtime_api = (f"127.0.0.1:{port}" for port in free_ports(2))
        arguments = ["--runtime-interface-emulator-address", address, "--runtime-api-address", runtime_api]
        environment = {
            **base_environment(),
            **aws.client_environment,
            "AWS_LAMBDA_FUNCTION_NAME": "superoffice-webhook",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "15",
            "SSL_CERT_FILE": str(aws.ca_file),
            **variables,
        }
        log = (tmp_path / "log").open("wb")
        children.append(Child([str(executable), *arguments, str(binary)], environment, log))

        def invoke(payload: dict) -> dict:
            url = f"http://{address}/2015-03-31/functions/function/invocations"
            deadline = time.monotonic() + 60
            while True:
                try:
                    with opener.open(url, json.dumps(payload).encode(), timeout=30) as response:
                        return json.load(response)
                except urllib.error.HTTPError:
                    raise
                except urllib.error.URLError as error:  # it does not listen yet
                    if not isinstance(error.reason, ConnectionRefusedError):
                        raise
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)

        return invoke

    yield start
    for child in children:
        child.close()


def test_delivery_is_forwarded(emulator, webhook):
    invoke = emulator(SUPEROFFICE_WEBHOOK_SECRET=SAMPLE_SECRET, QUEUE_URL=webhook.outputs["QueueUrl"])
    document = event()

    response = invoke(delivery(document))

    assert response["statusCode"] == 200
    assert json.loads(response["body"])["outcome"] == "forwarded"
    (message,) = webhook.queue().drain()
    assert json.loads(message["Body"]) == document
    assert invoke(delivery(document, secret="another"))["statusCode"] == 401


def test_invalid_configuration_is_an_init_error(emulator, tmp_path):
    invoke = emulator(SUPEROFFICE_WEBHOOK_SECRET=" ", QUEUE_URL="https://localhost/1/queue")
    with pytest.raises(urllib.error.HTTPError) as failure:
        invoke(delivery(event()))
    assert failure.value.code == 502
