"""A job: opened, rendered by threads and processes, committed and finished."""
