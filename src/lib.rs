//! Verifies SuperOffice CRM webhooks and forwards their contact events to Amazon SQS.
