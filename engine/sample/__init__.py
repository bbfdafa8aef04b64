"""What a sample is: a record of typed fields, and the shards that hold such records."""
