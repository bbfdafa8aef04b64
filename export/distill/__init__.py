"""Distillation of bundles: the teacher, what its graph costs, and a student of the wished cost."""
