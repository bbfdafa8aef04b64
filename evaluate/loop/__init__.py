"""The loop that improves data: rounds of train, export, sample and evaluate, each from the best one so far."""
