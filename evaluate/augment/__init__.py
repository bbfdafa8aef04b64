"""Augmented datasets: images of a user, changed by :mod:`gen_engine.train.augment` and written through the ledger."""
