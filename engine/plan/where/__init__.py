"""Conditions on columns: the language of ``--where``, its meaning for a generator's fields, and its record."""
