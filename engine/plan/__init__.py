"""What a job is: the request, its plan, and how shards are cut and divided into parts. Pure functions, no I/O."""
