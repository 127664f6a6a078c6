"""A consumer of the events queue: an AWS Lambda function for an SQS event source mapping.

The mapping needs ReportBatchItemFailures. Both kinds of queue and both message formats work. docs/consumers.md explains
the rules that this file follows.
"""

import json

# The events that this process has handled. A table with a conditional write replaces it in production: another process,
# and this one after a restart, do not see the set.
handled = set()


def lambda_handler(event, context):
    """Handles a batch and returns the messages that failed."""
    failures = []
    blocked_groups = set()
    for record in event["Records"]:
        group = message_group(record)
        if group in blocked_groups:
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        try:
            handle_once(superoffice_event(record))
        except Exception as error:
            print(json.dumps({"messageId": record["messageId"], "error": type(error).__name__}))
            blocked_groups.add(group)
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}


def message_group(record):
    """Returns the message group. In a standard queue, each message is its own group."""
    if record["eventSourceARN"].endswith(".fifo"):
        return record["attributes"]["MessageGroupId"]
    return record["messageId"]


def superoffice_event(record):
    """Returns the event that SuperOffice sent, from either message format."""
    # A byte order mark may precede the JSON. The format follows from the body: a message can lack its attributes.
    body = json.loads(record["body"].removeprefix("\ufeff"))
    return body["data"] if "specversion" in body and "Event" not in body else body


def handle_once(event):
    """Handles an event unless it has been handled before."""
    key = (event["Event"], event["EventId"])
    if key not in handled:
        handle(event)
        handled.add(key)


def handle(event):
    """Your code goes here."""
    print(json.dumps({"event": event["Event"], "eventId": event["EventId"], "primaryKey": event["PrimaryKey"]}))
