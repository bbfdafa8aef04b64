"""What a sample is: its modality, its arrays, and the shards that hold it."""
