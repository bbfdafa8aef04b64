"""Losses, and the training steps that use them."""
