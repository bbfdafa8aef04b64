"""Two revisions of gen-engine, each in an environment of its own, process by process in turns: ``make bench-vs``."""
