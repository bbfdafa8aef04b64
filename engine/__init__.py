"""The sampling engine: a bundle in, sharded and verified datasets out. Imports no torch."""
