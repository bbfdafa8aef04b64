"""Watching a run: figures on a small fixed budget, alarms, the best checkpoint, logs and curves.

Nothing here changes what is trained: the watch draws from a stream of its own, runs the networks in eval mode, and
gives every mode and random state back as it was.
"""
