"""The template against the code: what one names, the other has."""

import ast
import json
import re

from deployment import ACCOUNT, REGION, ROOT, delivery, deploy, event_body, source_template
from runtime_api import Function

# What AWS publishes for what the template makes, with the dimension that the template uses.
AWS_METRICS = {
    ("AWS/ApiGateway", "ApiId"): {"Count", "4xx", "5xx", "Latency", "IntegrationLatency", "DataProcessed"},
    ("AWS/Lambda", "FunctionName"): {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"},
    ("AWS/SQS", "QueueName"): {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "NumberOfMessagesSent",
        "NumberOfMessagesReceived",
        "NumberOfMessagesDeleted",
    },
}


def of_type(template: dict, resource_type: str) -> dict[str, dict]:
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == resource_type
    }


def emitted_metrics(aws, template, binary) -> dict[tuple[str, str], set[str]]:
    """The metrics of the lines that the function really prints, and those of the template's metric filters."""
    stack = deploy(aws, template)
    with stack.function(binary) as function:
        function.invoke(delivery(event_body()))
        (line,) = function.lines
    assert line["FunctionName"] == stack.outputs["FunctionName"]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["FunctionName"]]
    metrics = {(directive["Namespace"], "FunctionName"): {metric["Name"] for metric in directive["Metrics"]}}
    for filter_ in of_type(template, "AWS::Logs::MetricFilter").values():
        for metric in filter_["MetricTransformations"]:
            (dimension,) = metric["Dimensions"]
            metrics.setdefault((metric["MetricNamespace"], dimension["Key"]), set()).add(metric["MetricName"])
    return metrics


def test_every_alarm_watches_a_metric_that_exists_and_is_quiet_without_data(aws, template, binary):
    metrics = {**AWS_METRICS, **emitted_metrics(aws, template, binary)}
    resources = {"FunctionName": "WebhookFunction", "ApiId": "WebhookApi"}

    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        (dimension,) = alarm["Dimensions"]
        assert alarm["MetricName"] in metrics[alarm["Namespace"], dimension["Name"]], name
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert alarm["AlarmActions"] == {"Fn::If": ["HasAlarmEmail", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}
        if dimension["Name"] == "QueueName":
            queue, attribute = dimension["Value"]["Fn::GetAtt"]
            assert queue in of_type(template, "AWS::SQS::Queue"), name
            assert attribute == "QueueName", name
        else:
            assert dimension["Value"] == {"Ref": resources[dimension["Name"]]}, name

    watched = {alarm["MetricName"] for alarm in alarms.values()}
    assert {"Failed", "Rejected", "FallbackUsed", "WebhookDisabled", "Errors", "Throttles", "5xx"} <= watched


def test_the_dashboard_shows_metrics_that_exist_and_every_alarm(aws, template, binary):
    metrics = {**AWS_METRICS, **emitted_metrics(aws, template, binary)}
    stack = deploy(aws, template)
    dashboard = aws.client("cloudwatch").get_dashboard(DashboardName=stack.outputs["DashboardName"])
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]

    shown = set()
    for widget in widgets:
        for namespace, metric, dimension, *_ in widget["properties"].get("metrics", []):
            assert metric in metrics[namespace, dimension], widget["properties"]["title"]
            shown.add((namespace, metric))
    assert {metric for namespace, metric in shown if namespace == "SuperOfficeWebhook"} == {
        *metrics["SuperOfficeWebhook", "FunctionName"],
        *metrics["SuperOfficeWebhook", "ApiId"],
    }

    (alarms,) = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    assert sorted(alarms) == sorted(
        f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:"
        + alarm["AlarmName"]["Fn::Sub"].replace("${AWS::StackName}", stack.name)
        for alarm in of_type(template, "AWS::CloudWatch::Alarm").values()
    )


def test_the_template_sets_every_variable_that_the_code_reads_and_no_other(template):
    read = set(re.findall(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"', (ROOT / "src/config.rs").read_text()))
    of_the_function = {name for name in read if not name.startswith("AWS_")}
    function = template["Resources"]["WebhookFunction"]["Properties"]
    assert set(function["Environment"]["Variables"]) == of_the_function


def test_the_function_may_do_what_it_does_and_nothing_else(aws, template, binary):
    fallback = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:fallback.fifo"
    aws.client("sqs", "eu-west-1").create_queue(QueueName="fallback.fifo", Attributes={"FifoQueue": "true"})
    stack = deploy(
        aws,
        template,
        FallbackQueueUrl=f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/fallback.fifo",
        FallbackQueueArn=fallback,
    )
    allowed = statements(aws, stack.configuration["Role"].split("/")[-1])

    with stack.function(binary) as function:
        use_all_queues(aws, function, stack.outputs["QueueUrl"])

    assert {(action, arn) for action, arn in allowed if action.startswith("sqs:")} == aws.calls
    log_group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{stack.outputs['LogGroupName']}"
    assert {(action, arn) for action, arn in allowed if not action.startswith("sqs:")} == {
        ("logs:CreateLogStream", log_group),
        ("logs:PutLogEvents", log_group),
        ("xray:PutTraceSegments", "*"),
        ("xray:PutTelemetryRecords", "*"),
    }


def use_all_queues(aws, function, queue_url: str) -> None:
    """Has the function send to its queue, to quarantine, and to the fallback queue."""
    function.invoke(delivery(event_body()))
    function.invoke(delivery(b"{not json"))
    aws.client("sqs").delete_queue(QueueUrl=queue_url)
    function.invoke(delivery(event_body()))


def statements(aws, role: str) -> set[tuple[str, str]]:
    """What a deployed role allows: every action with every resource."""
    iam = aws.client("iam")
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    allowed = set()
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        # moto hands out what CloudFormation created as Python writes it, not as JSON.
        allowed |= pairs(ast.literal_eval(document))
    return allowed


def pairs(policy: dict) -> set[tuple[str, str]]:
    """Every action that a policy allows, with every resource."""
    allowed = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = statement["Action"], statement["Resource"]
        actions = [actions] if isinstance(actions, str) else actions
        resources = [resources] if isinstance(resources, str) else resources
        allowed |= {(action, resource) for action in actions for resource in resources}
    return allowed


def test_the_function_is_small_and_outlives_its_own_time_limits(template):
    function = template["Resources"]["WebhookFunction"]["Properties"]
    assert function["Runtime"] == "provided.al2023"
    assert function["Handler"] == "bootstrap"
    assert function["Architectures"] == [{"Ref": "Architecture"}]
    assert template["Parameters"]["Architecture"]["Default"] == "arm64"
    assert function["MemorySize"] == 128
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert function["LoggingConfig"]["LogFormat"] == "JSON"
    # It answers after ten seconds at the latest, when neither queue does.
    assert function["Timeout"] > 10


def test_the_documented_policy_is_what_the_documented_environment_needs(aws, binary):
    document = (ROOT / "docs/deploy.md").read_text()
    (environment,) = re.findall(r"```ini\n(.*?)```", document, re.S)
    (policy,) = re.findall(r"```json\n(.*?)```", document, re.S)
    environment = dict(line.split("=", 1) for line in environment.splitlines())
    for name, value in environment.items():
        if name.endswith("QUEUE_URL"):
            queue = value.rsplit("/", 1)[1]
            attributes = {"FifoQueue": "true"} if queue.endswith(".fifo") else {}
            region = value.split(".")[1]
            aws.client("sqs", region).create_queue(QueueName=queue, Attributes=attributes)

    with Function(binary, {**environment, "AWS_ENDPOINT_URL_SQS": aws.url}) as function:
        use_all_queues(aws, function, environment["QUEUE_URL"])

    assert pairs(json.loads(policy)) == aws.calls


def test_the_endpoint_is_one_route_throttled_and_logged(template):
    (api,) = of_type(template, "AWS::ApiGatewayV2::Api").values()
    assert {path: set(methods) for path, methods in api["Body"]["paths"].items()} == {"/webhook": {"post"}}
    (server,) = api["Body"]["servers"]
    assert server["x-amazon-apigateway-endpoint-configuration"]["disableExecuteApiEndpoint"] == {
        "Fn::If": ["HasCustomDomain", True, False]
    }
    (stage,) = of_type(template, "AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottlingRateLimit"},
        "ThrottlingBurstLimit": {"Ref": "ThrottlingBurstLimit"},
    }
    # The access log is JSON, with what the metric filter for throttled deliveries looks for.
    line = json.loads(stage["AccessLogSettings"]["Format"].replace("$context.status", "429"))
    (throttled,) = of_type(template, "AWS::Logs::MetricFilter").values()
    assert throttled["FilterPattern"] == "{ $.status = 429 }"
    assert line["status"] == 429
    assert line["apiId"] == "$context.apiId"


def test_log_lines_are_not_filtered_out_by_their_level(template):
    # Lambda takes a line without a level, as the line per delivery is, for INFO.
    for function in of_type(source_template(), "AWS::Serverless::Function").values():
        assert function["LoggingConfig"].get("ApplicationLogLevel", "INFO") in ("TRACE", "DEBUG", "INFO")


def test_the_example_consumer_is_wired_to_the_queue_only_on_demand(aws, template, binary):
    lambda_ = aws.client("lambda")
    stack = deploy(aws, template)
    assert lambda_.list_event_source_mappings(EventSourceArn=stack.outputs["QueueArn"])["EventSourceMappings"] == []

    stack = deploy(aws, template, ExampleConsumer="true")
    (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=stack.outputs["QueueArn"])["EventSourceMappings"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    consumer = lambda_.get_function_configuration(FunctionName=mapping["FunctionArn"])
    visibility_timeout = int(stack.queue("QueueUrl").attributes["VisibilityTimeout"])
    assert visibility_timeout >= 6 * consumer["Timeout"]
    assert {pair for pair in statements(aws, consumer["Role"].split("/")[-1]) if pair[0].startswith("sqs:")} == {
        ("sqs:ReceiveMessage", stack.outputs["QueueArn"]),
        ("sqs:DeleteMessage", stack.outputs["QueueArn"]),
        ("sqs:GetQueueAttributes", stack.outputs["QueueArn"]),
    }
