"""A deployment of template.yaml without an AWS account.

The template is expanded by AWS's own translator and created as a CloudFormation stack in moto, served on loopback. What
moto does not know (API Gateway's HTTP APIs, alarms, queue policies, metric filters) it leaves out of the stack; those
are looked at in the expanded template.
"""

import base64
import hashlib
import hmac
import io
import json
import logging
import subprocess
import threading
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from runtime_api import Function
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse
from werkzeug.serving import WSGIRequestHandler, make_server

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-north-1"
ACCOUNT = "123456789012"
SECRET = "sample-secret-do-not-use-in-production"
BUCKET, KEY = "deployment-code", "bootstrap.zip"


class Aws:
    """moto on loopback, and a record of what the function called."""

    def __init__(self) -> None:
        self.calls: set[tuple[str, str]] = set()
        logging.getLogger("moto").setLevel(logging.ERROR)  # it warns of everything that it leaves out
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def client(self, service: str, region: str = REGION) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, environ: dict, start_response: Any) -> Any:
        if "aws-sdk-rust" in environ.get("HTTP_USER_AGENT", ""):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            service, operation = environ.get("HTTP_X_AMZ_TARGET", ".").split(".")
            if service == "AmazonSQS":
                self.calls.add((f"sqs:{operation}", _queue_arn(json.loads(body)["QueueUrl"])))
            else:
                self.calls.add((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        return self._moto(environ, start_response)


class _Quiet(WSGIRequestHandler):
    def log(self, *_args: Any, **_more: Any) -> None:
        pass


def _queue_arn(url: str) -> str:
    """https://sqs.<region>.amazonaws.com/<account>/<name>"""
    host, account, name = url.split("//")[1].split("/")
    return f"arn:aws:sqs:{host.split('.')[1]}:{account}:{name}"


def source_template() -> dict:
    """template.yaml as it is written."""
    return yaml_parse((ROOT / "template.yaml").read_text())


def expanded_template() -> dict:
    """template.yaml as CloudFormation sees it after the transform, with its code where `sam deploy` would put it."""
    template = source_template()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = f"s3://{BUCKET}/{KEY}"
    parameters = {
        name: parameter["Default"] for name, parameter in template["Parameters"].items() if "Default" in parameter
    }
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    return translator.translate(template, parameters)


@dataclass
class Stack:
    """A deployed stack."""

    aws: Aws
    template: dict
    name: str

    @property
    def outputs(self) -> dict[str, str]:
        (stack,) = self.aws.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        assert stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), stack
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def update(self, **parameters: str) -> None:
        """Deploys the template again."""
        self.aws.client("cloudformation").update_stack(
            StackName=self.name, TemplateBody=json.dumps(self.template), Parameters=_as_list(parameters)
        )

    @property
    def configuration(self) -> dict:
        """The deployed function, as Lambda describes it."""
        return self.aws.client("lambda").get_function_configuration(FunctionName=self.outputs["FunctionName"])

    def function(self, binary: Path) -> Function:
        """The binary with the deployed function's environment, what Lambda adds to it, and the way to this AWS."""
        configuration = self.configuration
        log = self.template["Resources"]["WebhookFunction"]["Properties"]["LoggingConfig"]  # moto keeps none
        return Function(
            binary,
            {
                **configuration["Environment"]["Variables"],
                "AWS_LAMBDA_FUNCTION_NAME": configuration["FunctionName"],
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration["MemorySize"]),
                "AWS_LAMBDA_LOG_GROUP_NAME": self.outputs["LogGroupName"],
                "AWS_LAMBDA_LOG_FORMAT": log["LogFormat"],
                "AWS_LAMBDA_LOG_LEVEL": log["ApplicationLogLevel"],
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ENDPOINT_URL_SQS": self.aws.url,
            },
        )

    def queue(self, output: str) -> "DeployedQueue":
        return DeployedQueue(self.aws, self.outputs[output])


@dataclass
class DeployedQueue:
    """A queue, read by boto3 as a consumer would."""

    aws: Aws
    url: str
    region: str = REGION

    @property
    def sqs(self) -> Any:
        return self.aws.client("sqs", self.region)

    @property
    def attributes(self) -> dict[str, str]:
        return self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]

    def receive(self, visibility_timeout: int = 30) -> list[dict]:
        return self.sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=visibility_timeout,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])


def deploy(aws: Aws, template: dict, **parameters: str) -> Stack:
    """Creates a stack of its own from the expanded template."""
    _upload_code(aws)
    name = f"webhook-{uuid.uuid4().hex[:8]}"
    aws.client("cloudformation").create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Parameters=_as_list({"WebhookSecret": SECRET, **parameters}),
        Capabilities=["CAPABILITY_IAM"],
    )
    return Stack(aws, template, name)


def _as_list(parameters: dict[str, str]) -> list[dict]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]


def _upload_code(aws: Aws) -> None:
    s3 = aws.client("s3")
    if BUCKET in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        return
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("bootstrap", "the binary is run by the tests themselves")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=archive.getvalue())


def event_body(event: str = "contact.changed", primary_key: Optional[int] = 994863, **more: Any) -> bytes:
    """What SuperOffice sends, with an EventId of its own."""
    body = {
        "EventId": str(uuid.uuid4()),
        "Timestamp": "2026-03-02T07:50:50.6812131Z",
        "Changes": ["contact_id", "name"],
        "Event": event,
        "PrimaryKey": primary_key,
        "Entity": event.split(".")[0],
        "ContextIdentifier": "Cust1234",
        "ChangedByAssociateId": 316,
        "WebhookName": "Contact handler",
        **more,
    }
    return json.dumps(body).encode()


def delivery(body: bytes, secret: str = SECRET) -> dict:
    """A signed delivery as the HTTP API hands it to the function (payload format 2.0)."""
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    return {
        "version": "2.0",
        "routeKey": "POST /webhook",
        "rawPath": "/webhook",
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json; charset=utf-8",
            "host": f"api.execute-api.{REGION}.amazonaws.com",
            "user-agent": "NetServer-Webhook/11.4",
            "x-superoffice-signature": signature,
        },
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "api",
            "domainName": f"api.execute-api.{REGION}.amazonaws.com",
            "domainPrefix": "api",
            "http": {
                "method": "POST",
                "path": "/webhook",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.10",
                "userAgent": "NetServer-Webhook/11.4",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "POST /webhook",
            "stage": "$default",
            "time": "02/Mar/2026:07:50:51 +0000",
            "timeEpoch": 1772437851000,
        },
        "body": body.decode(),
        "isBase64Encoded": False,
    }


def build_binary() -> Path:
    """The function's binary, in the profile of development."""
    messages = subprocess.run(
        ["cargo", "build", "--locked", "--bin", "superoffice-webhook", "--message-format", "json-render-diagnostics"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    executables = [json.loads(line).get("executable") for line in messages.splitlines()]
    return Path(next(path for path in reversed(executables) if path))
