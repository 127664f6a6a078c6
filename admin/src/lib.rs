//! Administration of SuperOffice webhooks: registration, state, and recovery of missed events.
