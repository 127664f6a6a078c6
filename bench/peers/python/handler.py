"""The same job in Python, written as in boto3's documentation, with the client outside the handler."""

import base64
import hashlib
import hmac
import json
import os

import boto3

sqs = boto3.client("sqs")
QUEUE_URL = os.environ["QUEUE_URL"]
SECRET = os.environ["SUPEROFFICE_WEBHOOK_SECRET"].encode()


def handler(request, context):
    body = request["body"].encode()
    if request["isBase64Encoded"]:
        body = base64.b64decode(body)
    signature = request["headers"].get("x-superoffice-signature", "")
    expected = base64.b64encode(hmac.digest(SECRET, body, hashlib.sha256)).decode()
    if not hmac.compare_digest(signature, expected):
        return {"statusCode": 401}
    event = json.loads(body)
    sent = sqs.send_message(
        QueueUrl=QUEUE_URL,
        MessageBody=body.decode(),
        MessageAttributes={
            "Event": {"DataType": "String", "StringValue": event["Event"]},
            "EventId": {"DataType": "String", "StringValue": event["EventId"]},
            "Entity": {"DataType": "String", "StringValue": event["Entity"]},
            "PrimaryKey": {"DataType": "Number", "StringValue": str(event["PrimaryKey"])},
            "ContextIdentifier": {"DataType": "String", "StringValue": event["ContextIdentifier"]},
        },
    )
    response = {"outcome": "forwarded", "eventId": event["EventId"], "messageId": sent["MessageId"]}
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(response)}
