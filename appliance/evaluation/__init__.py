"""Evaluation: what a model version scores on held-out rows, and whether a stage's gate lets it pass."""
