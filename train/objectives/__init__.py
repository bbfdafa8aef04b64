"""Losses, and the training steps that use them: one module for each kind of model."""
