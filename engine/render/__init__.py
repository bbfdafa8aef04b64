"""From sample indices to arrays: batches on a fixed grid, on any number of execution streams."""
