"""What an evaluation found: sealed JSON, one HTML page, and Markdown."""
