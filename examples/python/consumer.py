"""A consumer of the events queue: an AWS Lambda function for an SQS event source mapping.

It follows the rules of docs/consumers.md with AWS Lambda Powertools. Both kinds of queue and both message formats work.
"""

import json
import os

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, SqsFifoPartialProcessor
from aws_lambda_powertools.utilities.batch import process_partial_response as process
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)

logger = Logger(service="consumer")
# After a failure on a FIFO queue, the later messages of the same group are returned, and those of no other group.
fifo = SqsFifoPartialProcessor(skip_group_on_error=True, logger=logger)
standard = BatchProcessor(EventType.SQS, logger=logger)
fifo.raise_on_entire_batch_failure = standard.raise_on_entire_batch_failure = False
store = DynamoDBPersistenceLayer(table_name=os.environ["IDEMPOTENCY_TABLE"])
once = IdempotencyConfig(
    event_key_jmespath="[ContextIdentifier, Event, EventId]",
    expires_after_seconds=30 * 24 * 60 * 60,  # more than the retention of the queue and its dead-letter queue
    hash_function="sha256",
    raise_on_no_idempotency_key=True,
)


@idempotent_function(data_keyword_argument="event", persistence_store=store, config=once)
def handle(*, event):
    """Your code goes here."""
    logger.info("handled", eventId=event["EventId"], event=event["Event"], primaryKey=event["PrimaryKey"])


def superoffice_event(body):
    """Returns the event that SuperOffice sent, from either message format."""
    # A byte order mark may precede the JSON. The format follows from the body: a message can lack its attributes.
    body = json.loads(body.removeprefix("\ufeff"))
    return body["data"] if "specversion" in body and "Event" not in body else body


def lambda_handler(event, context):
    """Handles a batch and returns the messages that failed."""
    once.register_lambda_context(context)  # the end of the claim to an event, if the function is stopped
    processor = fifo if event["Records"][0]["eventSourceARN"].endswith(".fifo") else standard
    return process(event, lambda record: handle(event=superoffice_event(record.body)), processor, context)
