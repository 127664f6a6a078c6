"""A local AWS: MiniStack on 127.0.0.1, with TLS and enforced IAM.

It emulates CloudFormation with the SAM transform, IAM, Lambda, API Gateway, SQS and CloudWatch, well enough to deploy
the template with `sam deploy` and to use the deployment over HTTPS. It needs no Docker: functions run as processes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import ssl
import subprocess
import sys
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import trustme
from botocore.config import Config
from botocore.exceptions import ClientError
from processes import ROOT, Server, StackError, base_environment, free_ports

REGION = "eu-north-1"
ACCOUNT = "123456789012"
START_TIMEOUT = 120


class LocalAws(Server):
    """A running local AWS. A context manager: leaving it ends the server and all functions."""

    def __init__(self, folder: Path) -> None:
        """Starts it with its certificates, log and temporary files in `folder`."""
        self.folder = folder
        self.port, insecure_port = free_ports(2)
        self.url = f"https://localhost:{self.port}"
        # The same AWS without TLS, to show that the queues reject such requests.
        self.insecure_url = f"http://localhost:{insecure_port}"
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.ca_file, certificate, key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        authority = trustme.CA()
        server = authority.issue_cert("localhost", "*.localhost", "*.execute-api.localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(self.ca_file)
        server.cert_chain_pems[0].write_to_path(certificate)
        key.touch(mode=0o600)
        server.private_key_pem.write_to_path(key)
        environment = {
            **base_environment(),
            "AUTH": "true",
            "GATEWAY_PORT": str(self.port),
            "INSECURE_PORT": str(insecure_port),
            "MINISTACK_HOST": "localhost",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "MINISTACK_SSL_CERT": str(certificate),
            "MINISTACK_SSL_KEY": str(key),
            "USE_SSL": "1",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
            "TMPDIR": str(folder / "tmp"),
            # Functions inherit these: they call back over TLS.
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.ca_file),
            "SSL_CERT_FILE": str(self.ca_file),
            "NODE_EXTRA_CA_CERTS": str(self.ca_file),
        }
        command = [sys.executable, str(Path(__file__).with_name("ministack_server.py"))]
        super().__init__(command, environment, folder / "ministack.log")
        self.wait_until(self._is_ready, START_TIMEOUT)

    def _is_ready(self) -> bool:
        context = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca_file)))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), context)
        with opener.open(f"{self.url}/_ministack/health", timeout=5) as response:
            return bool(json.load(response))

    @property
    def client_environment(self) -> dict[str, str]:
        """The variables with which programs use this AWS."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.ca_file),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # The access key is the account's id: the emulator's root user.
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, service: str, **settings: Any) -> Any:
        """Returns a boto3 client, by default of the account's root user."""
        defaults = {
            "endpoint_url": self.url,
            "verify": str(self.ca_file),
            "region_name": REGION,
            "aws_access_key_id": ACCOUNT,
            "aws_secret_access_key": "local",
            "config": Config(retries={"total_max_attempts": 1}, proxies={}),
        }
        return boto3.client(service, **{**defaults, **settings})

    def create_queue(self, name: str) -> Queue:
        """Creates a queue. A name ending in `.fifo` creates a FIFO queue."""
        sqs = self.client("sqs")
        attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        return Queue(sqs, sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def create_function(self, name: str, binary: Path, variables: dict[str, str]) -> LocalFunction:
        """Creates a function from a binary, with a role that allows everything."""
        self.client("lambda").create_function(
            FunctionName=name,
            Runtime="provided.al2023",
            Handler="bootstrap",
            Role=self._role,
            Timeout=30,
            TracingConfig={"Mode": "Active"},
            Code={"ZipFile": zipped(binary)},
            Environment={"Variables": variables},
        )
        return LocalFunction(self, name)

    @functools.cached_property
    def _role(self) -> str:
        iam = self.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        anything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        role = iam.create_role(RoleName="local", AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName="local", PolicyName="anything", PolicyDocument=policy(anything))
        return role

    def log_lines(self, group: str) -> list[dict]:
        """Returns the JSON lines in a log group, in order."""
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        messages = [event["message"].strip() for page in pages for event in page["events"]]
        return [json.loads(message) for message in messages if message.startswith("{")]


@dataclass
class LocalFunction:
    """A function in the local AWS."""

    aws: LocalAws
    name: str

    def invoke(self, event: object) -> dict:
        """Invokes the function and returns its result."""
        response = self.aws.client("lambda").invoke(FunctionName=self.name, Payload=json.dumps(event))
        result = json.load(response["Payload"])
        if "FunctionError" in response:
            raise StackError(f"{self.name} failed: {result}")
        return result

    def log_lines(self) -> list[dict]:
        """Returns the JSON lines of its log, in order."""
        with contextlib.suppress(ClientError):  # no log group before the first invocation
            return self.aws.log_lines(f"/aws/lambda/{self.name}")
        return []


@dataclass
class Queue:
    """A queue, read as a consumer reads it."""

    client: Any
    url: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def attributes(self) -> dict[str, str]:
        return self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]

    @property
    def count(self) -> int:
        """The number of messages, including those that a consumer holds."""
        attributes = self.attributes
        return sum(
            int(attributes[name]) for name in ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        )

    def drain(self) -> list[dict]:
        """Receives and deletes all messages."""
        messages = []
        while received := self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages"):
            for message in received:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            messages += received
        return messages

    def purge(self) -> None:
        """Deletes all messages, received ones included."""
        self.client.purge_queue(QueueUrl=self.url)


def attributes_of(message: dict) -> dict[str, str]:
    """Returns the values of a message's attributes."""
    return {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}


def sqs_event(messages: list[dict], queue: Queue) -> dict:
    """Returns the Lambda event of an SQS event source mapping for a batch of received messages."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {
                    name: {
                        "stringValue": value["StringValue"],
                        "stringListValues": [],
                        "binaryListValues": [],
                        "dataType": value["DataType"],
                    }
                    for name, value in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": hashlib.md5(message["Body"].encode(), usedforsecurity=False).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.name}",
                "awsRegion": REGION,
            }
            for message in messages
        ]
    }


def policy(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def stripped(binary: Path, path: Path) -> Path:
    """Copies a binary without its symbols for debugging, which are nine tenths of it, where `strip` is installed."""
    path.write_bytes(binary.read_bytes())
    path.chmod(0o755)
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["strip", path], check=False)
    return path


def zipped(binary: Path) -> bytes:
    """Returns the zip file of a function."""
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o755 << 16
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(entry, binary.read_bytes())
        return file.getvalue()


def run_sam(arguments: list[str], environment: dict[str, str], **settings: Any) -> subprocess.CompletedProcess:
    """Runs SAM with these arguments and variables. Nothing of the caller's AWS settings reaches it."""
    sam = Path(sys.executable).with_name("sam")
    return subprocess.run(
        [str(sam), *arguments],
        cwd=ROOT,
        env={**base_environment(), "SAM_CLI_TELEMETRY": "0", **environment},
        stdin=subprocess.DEVNULL,
        text=True,
        **settings,
    )
