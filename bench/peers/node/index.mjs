// The same job in Node, written as in the SDK's documentation, with the client outside the handler.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { SQSClient, SendMessageCommand } from '@aws-sdk/client-sqs'

const sqs = new SQSClient({})
const { QUEUE_URL, SUPEROFFICE_WEBHOOK_SECRET } = process.env

export const handler = async (request) => {
  const body = Buffer.from(request.body ?? '', request.isBase64Encoded ? 'base64' : 'utf8')
  const signature = Buffer.from(request.headers['x-superoffice-signature'] ?? '', 'base64')
  const expected = createHmac('sha256', SUPEROFFICE_WEBHOOK_SECRET).update(body).digest()
  if (signature.length !== expected.length || !timingSafeEqual(signature, expected)) {
    return { statusCode: 401 }
  }
  const event = JSON.parse(body.toString('utf8'))
  const text = (value) => ({ DataType: 'String', StringValue: value })
  const sent = await sqs.send(new SendMessageCommand({
    QueueUrl: QUEUE_URL,
    MessageBody: body.toString('utf8'),
    MessageAttributes: {
      Event: text(event.Event),
      EventId: text(event.EventId),
      Entity: text(event.Entity),
      PrimaryKey: { DataType: 'Number', StringValue: String(event.PrimaryKey) },
      ContextIdentifier: text(event.ContextIdentifier)
    }
  }))
  return {
    statusCode: 200,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ outcome: 'forwarded', eventId: event.EventId, messageId: sent.MessageId })
  }
}
