"""Two revisions of gen-engine, each in its own environment, interleaved process by process: ``make bench-vs``."""
