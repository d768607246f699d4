"""What other services hear and say, where RabbitMQ or Kafka is the bus: events out, messages in.

`parley.events` carries what is stored, `parley.messages` takes what is to be posted. Both stay connected by
themselves, over connections of their own, and nothing of it is ever waited for by those who chat.
docs/integrations.md tells other services what to rely on.
"""

EVENTS = "parley.events"
"""The exchange, or Kafka's topic, with everything that happens."""

MESSAGES = "parley.messages"
"""The queue, or Kafka's topic, with what others want to be posted."""

GROUP = "parley"
"""Kafka's consumer group of all our nodes."""
