"""Incidents, and telling people: rules say what is worth a message, the outbox sees that it arrives."""
