"""A bundle to its fastest faithful form on this machine."""
