"""The definition of a job: the request, its plan, and its division into shards and parts. Pure functions, no I/O."""
