"""The sinks' tests speak to an S3 server."""

from s3_fixtures import bucket, s3, s3_port

__all__ = ["bucket", "s3", "s3_port"]
