// A consumer of the events queue: an AWS Lambda function for an SQS event source mapping.
//
// It follows the rules of docs/consumers.md with AWS Lambda Powertools. Both kinds of queue and both message formats work.

import { BatchProcessor, EventType, SqsFifoPartialProcessorAsync, processPartialResponse } from "@aws-lambda-powertools/batch";
import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { DynamoDBPersistenceLayer } from "@aws-lambda-powertools/idempotency/dynamodb";
import { Logger } from "@aws-lambda-powertools/logger";

const logger = new Logger({ serviceName: "consumer" });
const fifo = new SqsFifoPartialProcessorAsync();
const standard = new BatchProcessor(EventType.SQS);
const persistenceStore = new DynamoDBPersistenceLayer({ tableName: process.env.IDEMPOTENCY_TABLE });
const config = new IdempotencyConfig({
  eventKeyJmesPath: "[ContextIdentifier, Event, EventId]",
  expiresAfterSeconds: 30 * 24 * 60 * 60, // more than the retention of the queue and its dead-letter queue
  hashFunction: "sha256",
  throwOnNoIdempotencyKey: true,
});

// Your code goes here.
async function handle(event) {
  logger.info("handled", { eventId: event.EventId, event: event.Event, primaryKey: event.PrimaryKey });
}

const handleOnce = makeIdempotent(handle, { persistenceStore, config });

// Returns the event that SuperOffice sent, from either message format.
function superofficeEvent(text) {
  // A byte order mark may precede the JSON. The format follows from the body: a message can lack its attributes.
  const body = JSON.parse(text.replace(/^\uFEFF/, ""));
  return "specversion" in body && !("Event" in body) ? body.data : body;
}

async function handleRecord(record, context) {
  try {
    // Without any time left, the claim to the event would have no end if the function is stopped.
    if (context.getRemainingTimeInMillis() < 1000) throw new Error("no time is left");
    await handleOnce(superofficeEvent(record.body));
  } catch (error) {
    logger.error("failed", { messageId: record.messageId, error });
    throw error;
  }
}

// Handles a batch and returns the messages that failed.
export async function handler(event, context) {
  config.registerLambdaContext(context);
  const processor = event.Records[0].eventSourceARN.endsWith(".fifo") ? fifo : standard;
  // After a failure on a FIFO queue, the later messages of the same group are returned, and those of no other group.
  const options = { context, skipGroupOnError: true, throwOnFullBatchFailure: false, processInParallel: false };
  return processPartialResponse(event, handleRecord, processor, options);
}
