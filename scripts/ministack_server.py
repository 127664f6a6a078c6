"""Serves MiniStack with TLS.

MiniStack's own program would also listen on port 443, and it differs from AWS in five ways that matter here. Its
CloudFormation does not know three kinds of resources of the template, an update ends functions in the middle of a
request, a log line that is late by milliseconds is not in the log, and no policy for a path of parameters has an
effect.
"""

import asyncio
import os
import re
import sys
import threading
import time

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from ministack.core import iam_actions, lambda_runtime
from ministack.services.cloudformation import provisioners

# No request takes longer: the function's own time limits are shorter.
MAX_REQUEST_SECONDS = 10
# A function has written its line before it responds. Only a busy machine delays the thread that reads the line.
MAX_LOG_SECONDS = 10


def record_resources() -> None:
    """Accepts saved queries and composite alarms, which have no effect on a deployment."""

    def create(logical_id: str, properties: dict, stack_name: str) -> tuple[str, dict]:
        name = properties.get("AlarmName", f"{stack_name}-{logical_id}")
        return name, {"QueryDefinitionId": name, "Arn": name}

    def update(physical_id: str, _old: dict, _new: dict, _stack_name: str) -> tuple[str, dict]:
        return physical_id, {"QueryDefinitionId": physical_id, "Arn": physical_id}

    handler = {"create": create, "update": update, "delete": lambda physical_id, properties: None}
    for kind in ("AWS::Logs::QueryDefinition", "AWS::CloudWatch::CompositeAlarm"):
        provisioners._RESOURCE_HANDLERS[kind] = handler


def record_alarms_on_expressions() -> None:
    """Accepts an alarm on a metric math expression as an alarm on the metric of the expression."""
    record = provisioners._cw_metric_alarm_record

    def record_alarm(name: str, properties: dict) -> dict:
        for query in properties.get("Metrics") or []:
            if stat := query.get("MetricStat"):
                metric = {"Statistic": stat["Stat"], "Period": stat["Period"], **stat["Metric"]}
                return record(name, {**properties, **metric, "Metrics": None})
        return record(name, properties)

    provisioners._cw_metric_alarm_record = record_alarm


def finish_requests_before_updates() -> None:
    """Lets a function finish its current requests when an update replaces it, as Lambda does."""
    kill = lambda_runtime.kill_workers

    def finish_and_kill(workers: list) -> None:
        deadline = time.monotonic() + MAX_REQUEST_SECONDS
        while any(worker.in_use for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.01)
        kill(workers)

    # In a thread of its own: an update runs in the thread that also serves the requests of functions.
    lambda_runtime.kill_workers = lambda workers: threading.Thread(target=finish_and_kill, args=[workers]).start()


def wait_for_log_lines() -> None:
    """Waits for the JSON line that a function writes before it responds. MiniStack waits for 50 milliseconds."""
    drain = lambda_runtime.ProvidedWorker._drain_stderr_bounded

    def drain_json_line(worker: lambda_runtime.ProvidedWorker, **limits: float) -> str:
        deadline, lines = time.monotonic() + MAX_LOG_SECONDS, ""
        while True:
            lines = "\n".join(filter(None, [lines, drain(worker, **limits)]))
            # With limits, these are the lines of a start that failed.
            if limits or re.search(r"^\{", lines, re.MULTILINE) or time.monotonic() > deadline:
                return lines

    lambda_runtime.ProvidedWorker._drain_stderr_bounded = drain_json_line


def authorize_paths_of_parameters() -> None:
    """Compares a call of GetParametersByPath with the policies for its path, as AWS does."""
    extract = iam_actions.extract_resource_arn

    def resource_arn(service: str, method: str, path: str, headers: dict, body: bytes, query: dict, *place: str) -> str:
        if service == "ssm" and (parameters := iam_actions._param(body, query, "Path")):
            region, account = place
            return f"arn:aws:ssm:{region}:{account}:parameter/{parameters.strip('/')}"
        return extract(service, method, path, headers, body, query, *place)

    iam_actions.extract_resource_arn = resource_arn


def main() -> None:
    authorize_paths_of_parameters()
    finish_requests_before_updates()
    wait_for_log_lines()
    record_resources()
    record_alarms_on_expressions()
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['GATEWAY_PORT']}"]
    config.insecure_bind = [f"127.0.0.1:{os.environ['INSECURE_PORT']}"]
    config.certfile, config.keyfile = os.environ["MINISTACK_SSL_CERT"], os.environ["MINISTACK_SSL_KEY"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    # Without the handlers of hypercorn, which wait for connections to end, a signal ends the process at once.
    asyncio.run(serve(app, config, shutdown_trigger=asyncio.Event().wait))


if __name__ == "__main__":
    sys.exit(main())
