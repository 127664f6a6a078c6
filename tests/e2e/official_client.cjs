// SuperOffice's own client against the fake SuperOffice: prints each step's result as one JSON object.
// Arguments: the tenant's base URL, the webhook's URL, its secret, and the id of a contact.

const { ContactRestApi, WebhookAgent, WebhookNotifyVia } = require("@superoffice/webapi");

const [base, targetUrl, secret, contact] = process.argv.slice(2);
const auth = { username: process.env.SUPEROFFICE_USER, password: process.env.SUPEROFFICE_PASSWORD };
const status = (error) => error.response?.status ?? String(error);

async function main() {
  const webhooks = new WebhookAgent(base, { auth });
  const contacts = new ContactRestApi(base, { auth });
  const result = {};

  result.draft = await webhooks.createDefaultWebhookAsync();
  const desired = { ...result.draft, name: "witness", events: ["contact.resync"], targetUrl, secret };
  result.created = await webhooks.saveWebhookAsync(desired);
  result.listed = await webhooks.getAllWebhooksAsync("witness", "contact.resync", "Active");
  result.stopped = await webhooks.getAllWebhooksAsync("witness", "contact.resync", "Stopped");

  const changed = { ...result.created, description: "changed", notifyVia: WebhookNotifyVia.InApp };
  result.changed = await webhooks.saveWebhookAsync(changed);
  result.read = await webhooks.getWebhookAsync(result.created.webhookId);
  result.test = await webhooks.testWebhookAsync(result.read);
  result.wrong = await webhooks.testWebhookAsync({ ...result.read, secret: "wrong" });
  result.insecure = await webhooks
    .saveWebhookAsync({ ...desired, targetUrl: "http://hooks.example.com" })
    .catch((error) => ({ status: status(error), ...error.response?.data }));

  await webhooks.signalEventAsync("contact.resync", Number(contact), { reason: "witness" });
  result.lastError = await webhooks.getLastErrorAsync(result.created.webhookId);

  result.contact = await contacts.getByIdAsync(Number(contact), { timezone: "UTC", timezoneInclude: true });
  result.unmodified = await contacts.getByIdAsync(Number(contact), { ifModifiedSince: new Date(Date.now() + 60_000) });
  result.unknown = await contacts.getByIdAsync(999_999).catch(status);

  // The event is delivered before its webhook is deleted.
  await fetch(new URL("/_control/idle", base));
  await webhooks.deleteWebhookAsync(result.created.webhookId);
  result.deleted = await webhooks.getWebhookAsync(result.created.webhookId);
  console.log(JSON.stringify(result));
}

main().catch((error) => {
  console.error(error.response?.data ?? error);
  process.exitCode = 1;
});
