"""The template's patterns agree with the function's configuration: a value that stops the function never reaches it.

The binary is started with each value. CloudFormation evaluates the patterns with Java, which must agree with Python.
"""

import base64
import contextlib
import itertools
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from processes import ROOT
from sam_stack import CONSUMER_TEMPLATE, MIRROR_TEMPLATE, TEMPLATE, WATCHDOG_TEMPLATE
from samtranslator.yaml_helper import yaml_parse
from signing import SAMPLE_SECRET

PARAMETERS = yaml_parse(TEMPLATE.read_text())["Parameters"]
VARIABLES = {
    "WebhookSecret": "SUPEROFFICE_WEBHOOK_SECRET",
    "WebhookSecretPrevious": "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS",
    "TenantSecrets": "SUPEROFFICE_TENANT_SECRETS",
    "MasterSecret": "SUPEROFFICE_TENANT_MASTER_SECRET",
    "MasterSecretPrevious": "SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS",
    "ForwardEvents": "FORWARD_EVENTS",
    "MessageFormat": "MESSAGE_FORMAT",
}
BOTH, NEITHER, STRICTER = "both accept", "both reject", "only the function accepts"

SECRET = "Zm9yIHRlc3RzIG9ubHk="
MASTER = "a master secret of 32 bytes, yes"
TENANTS_100 = "{" + ",".join(f'"Cust{number}":"s{number}"' for number in range(100)) + "}"
ARRAY_100 = '{"a":["x"' + ',"x"' * 98 + '],"b":"y"}'

CASES = [
    # A secret that is short, or has stray whitespace, is legal but weak or a mistake.
    ("WebhookSecret", "", BOTH),
    ("WebhookSecret", SECRET, BOTH),
    ("WebhookSecret", 'with spaces, "quotes" and \\ backslash', BOTH),
    ("WebhookSecret", "æøå and other letters ✓", BOTH),
    ("WebhookSecret", " ", NEITHER),
    ("WebhookSecret", " \t\n" * 8, NEITHER),
    ("WebhookSecret", "short", STRICTER),
    ("WebhookSecret", SECRET + " ", STRICTER),
    ("WebhookSecret", "\n" + SECRET, STRICTER),
    ("WebhookSecretPrevious", "", BOTH),
    ("WebhookSecretPrevious", SECRET, BOTH),
    ("WebhookSecretPrevious", "s", BOTH),
    ("WebhookSecretPrevious", " ", NEITHER),
    ("WebhookSecretPrevious", "s ", STRICTER),
    ("MasterSecret", "", BOTH),
    ("MasterSecret", MASTER, BOTH),
    ("MasterSecret", MASTER[:-1], NEITHER),
    ("MasterSecret", " " * 32, NEITHER),
    ("MasterSecret", "æ" * 16, STRICTER),  # 32 bytes, but 16 characters
    ("MasterSecret", MASTER + "\n", STRICTER),
    ("MasterSecretPrevious", "", BOTH),
    ("MasterSecretPrevious", MASTER, BOTH),
    ("MasterSecretPrevious", MASTER[:-1], NEITHER),
    ("TenantSecrets", "", BOTH),
    ("TenantSecrets", '{"Cust1":"a"}', BOTH),
    ("TenantSecrets", ' {\n "Cust1" : "a b" ,\n "Cust2" : [ "c", " d" ] }\n', BOTH),
    ("TenantSecrets", '{"Cust1":["a"],"Cust11":"a","1Cust1":"{\'x\': [1, 2]}, :"}', BOTH),
    ("TenantSecrets", TENANTS_100, BOTH),
    ("TenantSecrets", ARRAY_100, BOTH),
    ("TenantSecrets", "{", NEITHER),
    ("TenantSecrets", "[]", NEITHER),
    ("TenantSecrets", '["Cust1"]', NEITHER),
    ("TenantSecrets", "Cust1=a", NEITHER),
    ("TenantSecrets", '"Cust1":"a"', NEITHER),
    ("TenantSecrets", '{"Cust1"}', NEITHER),
    ("TenantSecrets", '{"Cust1":}', NEITHER),
    ("TenantSecrets", '{Cust1:"a"}', NEITHER),
    ("TenantSecrets", "{'Cust1':'a'}", NEITHER),
    ("TenantSecrets", '{"Cust1":"a",}', NEITHER),
    ("TenantSecrets", '{,"Cust1":"a"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"a" "Cust2":"b"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"a"', NEITHER),
    ("TenantSecrets", '{"Cust1":"a",', NEITHER),
    ("TenantSecrets", '{"Cust1":"a"}}', NEITHER),
    ("TenantSecrets", '{"Cust1":"a"} x', NEITHER),
    ("TenantSecrets", '{"Cust1":"a"},{"Cust2":"b"}', NEITHER),
    ("TenantSecrets", '{"Cust1":["a"}', NEITHER),
    ("TenantSecrets", '{"Cust1":["a",]}', NEITHER),
    ("TenantSecrets", '{"Cust1":[["a"]]}', NEITHER),
    ("TenantSecrets", '{"Cust1":{"a":"b"}}', NEITHER),
    ("TenantSecrets", '{"Cust1":1}', NEITHER),
    ("TenantSecrets", '{"Cust1":null}', NEITHER),
    ("TenantSecrets", '{"Cust1":""}', NEITHER),
    ("TenantSecrets", '{"Cust1":"  "}', NEITHER),
    ("TenantSecrets", '{"Cust1":["a",""]}', NEITHER),
    ("TenantSecrets", '{"Cust1":["a"," "]}', NEITHER),
    ("TenantSecrets", '{"Cust1":[]}', NEITHER),
    ("TenantSecrets", '{"":"a"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"a","Cust1":"b"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"a","Cust2":["b"],"cUST1":"c"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"a\tb"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"a\\x"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"\\u0020"}', NEITHER),
    ("TenantSecrets", '{"Cust1":"\\ud800"}', NEITHER),
    ("TenantSecrets", TENANTS_100.replace("{", '{"more":"m",'), NEITHER),
    ("TenantSecrets", ARRAY_100.replace("}", ',"more":"m"}'), NEITHER),
    ("TenantSecrets", '{"a":["x"' + ',"x"' * 100 + "]}", NEITHER),
    # No tenant at all is the same as an empty value, and an escape is hardly ever meant.
    ("TenantSecrets", "{}", STRICTER),
    ("TenantSecrets", '{"Cust1":"a\\"b"}', STRICTER),
    ("TenantSecrets", '{"Cust\\u0031":"a"}', STRICTER),
    ("TenantSecrets", '{\t"Cust1":"a"}', STRICTER),
    ("ForwardEvents", "", BOTH),
    ("ForwardEvents", "contact.*", BOTH),
    ("ForwardEvents", "*", BOTH),
    ("ForwardEvents", " Contact.Deleted , person.*,,sale*, ", BOTH),
    ("ForwardEvents", "contact.created,contact.resync\n", BOTH),
    ("ForwardEvents", "list.110.created,y_table.changed,webhook.errors", BOTH),
    ("ForwardEvents", "*.created", NEITHER),
    ("ForwardEvents", "contact.**", NEITHER),
    ("ForwardEvents", "contact.*x", NEITHER),
    ("ForwardEvents", "contact.*,*.created", NEITHER),
    ("ForwardEvents", "contact.* person.*", NEITHER),
    ("ForwardEvents", " ", NEITHER),
    ("ForwardEvents", ",", NEITHER),
    ("ForwardEvents", " , ,", NEITHER),
    ("ForwardEvents", ", " * 20 + "*x", NEITHER),
    # Names that no event has.
    ("ForwardEvents", "contact created", STRICTER),
    ("ForwardEvents", "kontakt.endret.æ", STRICTER),
    ("MessageFormat", "superoffice", BOTH),
    ("MessageFormat", "cloudevents", BOTH),
    ("MessageFormat", "xml", NEITHER),
    ("MessageFormat", " cloudevents", NEITHER),
]


def template_accepts(name: str, value: str) -> bool:
    parameter = PARAMETERS[name]
    if "AllowedValues" in parameter:
        return value in parameter["AllowedValues"]
    return re.fullmatch(parameter["AllowedPattern"], value) is not None


def starts(binary: Path, environment: dict[str, str]) -> tuple[bool, str]:
    """Starts the function. Returns whether it requests an event, and otherwise its output."""
    with socket.create_server(("127.0.0.1", 0)) as runtime_api, tempfile.TemporaryFile() as output:
        runtime_api.settimeout(0.05)
        lambda_variables = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime_api.getsockname()[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_REGION": "eu-north-1",
        }
        process = subprocess.Popen([binary], env={**lambda_variables, **environment}, stdout=output, stderr=output)
        while process.poll() is None:
            with contextlib.suppress(TimeoutError):
                connection, _ = runtime_api.accept()
                with connection:
                    request = connection.recv(1000)
                process.kill()
                process.wait()
                assert request.startswith(b"GET /2018-06-01/runtime/invocation/next ")
                return True, ""
        output.seek(0)
        assert process.returncode != 0
        return False, output.read().decode()


@pytest.mark.parametrize(("name", "value", "expected"), CASES, ids=itertools.count())
def test_pattern_agrees_with_the_function(binary, name, value, expected):
    environment = {
        "SUPEROFFICE_WEBHOOK_SECRET": SECRET,
        "QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/123456789012/events.fifo",
        # Nothing listens there, so the check of the queue ends at once.
        "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9",
        VARIABLES[name]: value,
    }
    if name == "WebhookSecret" and not value:
        environment["SUPEROFFICE_TENANT_SECRETS"] = '{"Cust1":"a"}'
    accepted, output = starts(binary, environment)
    assert accepted or "invalid configuration" in output
    assert accepted == (expected != NEITHER), f"the function, {name}={value!r}"
    assert template_accepts(name, value) == (expected == BOTH), f"the template, {name}={value!r}"


@pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed")
def test_java_agrees_with_python():
    cases = [(PARAMETERS[name]["AllowedPattern"], value) for name, value, _ in CASES if name != "MessageFormat"]
    for path in (TEMPLATE, WATCHDOG_TEMPLATE, CONSUMER_TEMPLATE, MIRROR_TEMPLATE, ROOT / "fallback/template.yaml"):
        parameters = yaml_parse(path.read_text())["Parameters"].values()
        cases += [(item["AllowedPattern"], item.get("Default", "")) for item in parameters if "AllowedPattern" in item]
    encoded = [" ".join(base64.b64encode(text.encode()).decode() for text in case) for case in cases]
    program = Path(__file__).with_name("Patterns.java")
    output = subprocess.run(["java", program], input="\n".join(encoded), capture_output=True, text=True, check=True)
    expected = [str(re.fullmatch(pattern, value) is not None).lower() for pattern, value in cases]
    assert dict(zip(cases, output.stdout.split(), strict=True)) == dict(zip(cases, expected, strict=True))


def test_every_text_parameter_has_a_pattern_with_a_description():
    for name, parameter in PARAMETERS.items():
        if parameter["Type"] != "Number" and "AllowedValues" not in parameter:
            assert parameter.keys() >= {"AllowedPattern", "ConstraintDescription"}, name


@pytest.mark.parametrize(
    ("principal", "accepted"),
    [
        ("123456789012", True),
        ("020222070707", True),
        ("arn:aws:iam::123456789012:root", True),
        ("arn:aws:iam::123456789012:role/consumer", True),
        ("arn:aws-us-gov:iam::123456789012:role/path/to/consumer", True),
        ("arn:aws:iam::123456789012:user/consumer", True),
        # Everyone.
        ("*", False),
        ("arn:aws:iam::*:root", False),
        # A YAML number that has lost its first zero.
        ("20222070707", False),
        ("1234567890123", False),
        ("arn:aws:iam::123456789012:role/", False),
        ("arn:aws:iam::123456789012:group/consumers", False),
        ("arn:aws:sts::123456789012:assumed-role/consumer/session", False),
        ("consumer.example.com", False),
    ],
)
def test_consumer_principal_is_an_account_a_role_or_a_user(principal, accepted):
    assert template_accepts("ConsumerPrincipals", principal) == accepted


def test_defaults_are_accepted():
    for name, parameter in PARAMETERS.items():
        if "AllowedPattern" in parameter:
            assert template_accepts(name, parameter["Default"]), name


def references(node: object, path: tuple = ()) -> Iterator[tuple[str, tuple]]:
    """Yields the names that `Ref` and `Fn::Sub` use in a part of a template, each with the path to its use."""
    if isinstance(node, dict):
        for key, value in node.items():
            here = (*path, key)
            if key == "Ref":
                yield value, here
            elif key == "Fn::Sub":
                text, *_variables = value if isinstance(value, list) else [value]
                for name in re.findall(r"\$\{([^!}][^}]*)\}", text):
                    yield name.strip(), here
            yield from references(value, here)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from references(item, (*path, index))


def shown_secrets(template: dict) -> set[str]:
    """Returns the secret parameters of a template that are echoed, or used outside the function's environment."""
    secrets = {name for name in template["Parameters"] if re.search("Secret|SystemToken|PrivateKey|Password", name)}
    hidden = {name for name, parameter in template["Parameters"].items() if parameter.get("NoEcho") is True}
    resources = template["Resources"]
    (function,) = [name for name in resources if resources[name]["Type"] == "AWS::Serverless::Function"]
    environment = ("Resources", function, "Properties", "Environment", "Variables")
    assert secrets, "no secret at all"
    shown = secrets ^ hidden
    for name, path in references(template):
        # A rule may compare a secret, because it shows its own description only.
        if name in secrets and path[: len(environment)] != environment and path[0] != "Rules":
            is_set = {"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]}
            # A condition may show whether there is a secret.
            if path[0] != "Conditions" or template["Conditions"][path[1]] != is_set:
                shown.add(name)
    return shown


@pytest.mark.parametrize(
    "path",
    [TEMPLATE, WATCHDOG_TEMPLATE, CONSUMER_TEMPLATE, MIRROR_TEMPLATE],
    ids=["function", "watchdog", "consumer", "mirror"],
)
def test_secrets_are_never_shown(path):
    assert shown_secrets(yaml_parse(path.read_text())) == set()


SECRET_REF = {"Ref": "WebhookSecret"}


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("Parameters", "WebhookSecret", {"Type": "String"}),
        ("Outputs", "Shown", {"Value": SECRET_REF}),
        ("Outputs", "Shown", {"Description": "x", "Value": {"Fn::If": ["IsFifo", "", SECRET_REF]}}),
        ("Outputs", "Shown", {"Value": {"Fn::Sub": "a ${WebhookSecret}"}}),
        ("Outputs", "Shown", {"Value": {"Fn::Sub": ["a ${Name} ${WebhookSecret}", {"Name": "b"}]}}),
        ("Outputs", "Shown", {"Value": {"Fn::Sub": ["a ${Name}", {"Name": SECRET_REF}]}}),
        (
            "Resources",
            "Topic",
            {"Type": "AWS::SNS::Topic", "Properties": {"Tags": [{"Key": "a", "Value": SECRET_REF}]}},
        ),
        ("Resources", "Topic", {"Type": "AWS::SNS::Topic", "Metadata": SECRET_REF}),
        ("Conditions", "Guessed", {"Fn::Equals": [SECRET_REF, "guess"]}),
        ("Globals", "Function", {"Tags": {"a": SECRET_REF}}),
    ],
    ids=itertools.count(),
)
def test_shown_secret_is_found(section, name, value):
    template = yaml_parse(TEMPLATE.read_text())
    template.setdefault(section, {})[name] = value
    assert shown_secrets(template) == {"WebhookSecret"}


def test_secret_in_the_description_of_the_function_is_found():
    template = yaml_parse(TEMPLATE.read_text())
    template["Resources"]["WebhookFunction"]["Properties"]["Description"] = {"Fn::Sub": "${MasterSecret}"}
    assert shown_secrets(template) == {"MasterSecret"}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"WebhookSecret": ""}, "One of WebhookSecret, TenantSecrets and MasterSecret is required"),
        ({"MasterSecretPrevious": MASTER}, "MasterSecretPrevious needs MasterSecret"),
        ({"FallbackQueueArn": "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}, "FallbackQueueArn"),
        ({"DomainName": "webhooks.example.com"}, "DomainName needs CertificateArn"),
        ({"CertificateArn": "arn:aws:acm:eu-north-1:123456789012:certificate/1"}, "CertificateArn needs DomainName"),
        ({"DefaultEndpoint": "disabled"}, "DefaultEndpoint can only be disabled with a DomainName"),
        ({"ConsumerPrincipals": "123456789012,*"}, "ConsumerPrincipals"),
        ({"TenantSecrets": "{"}, "TenantSecrets"),
        ({"ForwardEvents": "*.created"}, "ForwardEvents"),
        ({"MessageFormat": "xml"}, "MessageFormat"),
        ({"SilenceHours": "169"}, "SilenceHours"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_cloudformation_rejects_the_update(webhook, parameters, problem):
    with pytest.raises(ClientError) as rejection:
        webhook.update(**parameters)
    assert problem in rejection.value.response["Error"]["Message"]
    assert webhook.stack.description["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")


@pytest.mark.parametrize("parameters", [{"TenantSecrets": '{"Cust1":"a"}'}, {"MasterSecret": MASTER}])
def test_shared_secret_is_optional_for_tenants_with_their_own(webhook, parameters):
    webhook.update(WebhookSecret="", **parameters)
    response = webhook.post(b"{}")
    webhook.update(WebhookSecret=SAMPLE_SECRET, **dict.fromkeys(parameters, ""))
    # The function runs, and knows no shared secret.
    assert response.status == 401
    assert response.is_from_function
