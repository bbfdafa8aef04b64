"""The command line: options in, calls to the other rooms, progress and exit codes out."""
