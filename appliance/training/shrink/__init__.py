"""Smaller models: structured pruning that rewrites weights and configuration, and distillation from cached answers."""
