"""The command line: parses options, calls the other packages, and reports progress and exit codes."""
