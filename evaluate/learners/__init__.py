"""Learners: models that are trained on some rows and score others, by which data are judged useful."""
