"""The commit protocol of a dataset: how finished shards become a finished dataset, safe against a kill at any time."""
