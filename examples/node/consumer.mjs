// A consumer of the events queue: an AWS Lambda function for an SQS event source mapping.
//
// The mapping needs ReportBatchItemFailures. Both kinds of queue and both message formats work. docs/consumers.md
// explains the rules that this file follows.

// The events that this process has handled. A table with a conditional write replaces it in production: another process,
// and this one after a restart, do not see the set.
const handled = new Set();

// Handles a batch and returns the messages that failed.
export async function handler(event) {
  const failures = [];
  const blockedGroups = new Set();
  for (const record of event.Records) {
    const group = messageGroup(record);
    if (blockedGroups.has(group)) {
      failures.push({ itemIdentifier: record.messageId });
      continue;
    }
    try {
      await handleOnce(superofficeEvent(record));
    } catch (error) {
      console.log(JSON.stringify({ messageId: record.messageId, error: error.name }));
      blockedGroups.add(group);
      failures.push({ itemIdentifier: record.messageId });
    }
  }
  return { batchItemFailures: failures };
}

// Returns the message group. In a standard queue, each message is its own group.
function messageGroup(record) {
  return record.eventSourceARN.endsWith(".fifo") ? record.attributes.MessageGroupId : record.messageId;
}

// Returns the event that SuperOffice sent, from either message format.
function superofficeEvent(record) {
  // A byte order mark may precede the JSON. The format follows from the body: a message can lack its attributes.
  const body = JSON.parse(record.body.replace(/^\uFEFF/, ""));
  return "specversion" in body && !("Event" in body) ? body.data : body;
}

// Handles an event unless it has been handled before.
async function handleOnce(event) {
  const key = JSON.stringify([event.Event, event.EventId]);
  if (!handled.has(key)) {
    await handle(event);
    handled.add(key);
  }
}

// Your code goes here.
async function handle(event) {
  console.log(JSON.stringify({ event: event.Event, eventId: event.EventId, primaryKey: event.PrimaryKey }));
}
