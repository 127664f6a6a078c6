"""Runs of a deployed watchdog."""

from __future__ import annotations

import json
import time

from sam_stack import SamStack


def run(watchdog: SamStack) -> tuple[bool, dict]:
    """Runs the watchdog, and returns whether the run was completed, and its report or error. Every tenant is due."""
    make_due(watchdog)
    response = watchdog.aws.client("lambda").invoke(FunctionName=watchdog.outputs["FunctionName"])
    return "FunctionError" not in response, json.load(response["Payload"])


def make_due(watchdog: SamStack) -> None:
    """Repeats the last line of each tenant without the time of the visit, so that nobody waits for five minutes."""
    logs, group = watchdog.aws.client("logs"), watchdog.outputs["LogGroupName"]
    last = {line["tenant"]: line for line in watchdog.log_lines() if "tenant" in line}
    for line in last.values():
        line["state"].pop("completed", None)
    if last:
        stream = f"due-{time.time_ns()}"
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        now = time.time_ns() // 1_000_000
        events = [{"timestamp": now, "message": json.dumps(line)} for line in last.values()]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def forget(watchdog: SamStack) -> None:
    """Lets the watchdog forget its runs, so that it reactivates a webhook that it has reactivated in the last hour."""
    logs, group = watchdog.aws.client("logs"), watchdog.outputs["LogGroupName"]
    for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]:
        logs.delete_log_stream(logGroupName=group, logStreamName=stream["logStreamName"])
    # An update ends the process, which remembers reactivations as well.
    lambda_, function = watchdog.aws.client("lambda"), watchdog.outputs["FunctionName"]
    environment = lambda_.get_function_configuration(FunctionName=function)["Environment"]
    lambda_.update_function_configuration(FunctionName=function, Environment=environment)
