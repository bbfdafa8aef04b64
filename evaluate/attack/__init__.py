"""Adversarial sets: a dataset's images, changed within a bound so that a classifier errs, with their labels."""
