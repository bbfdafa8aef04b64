"""What every other package stands on: digests, durable writes, the processor. Imports no other package."""
