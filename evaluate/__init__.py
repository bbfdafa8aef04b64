"""Evaluation: is a dataset worth training on, is it like the real one, and does it give anyone away?"""
