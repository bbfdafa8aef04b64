"""The foundation of all other packages: digests, durable writes, the processor. Imports no other package."""
