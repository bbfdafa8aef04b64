"""Distillation: training a student network on what a teacher makes of the same latents and labels."""
