"""Differentially private training: one noisy measurement of the data, and all else from that alone."""
