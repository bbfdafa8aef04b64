"""The dataset directory: how finished shards become a finished dataset, whatever is killed in between."""
