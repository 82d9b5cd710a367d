"""The durable log as its consumers see it."""
