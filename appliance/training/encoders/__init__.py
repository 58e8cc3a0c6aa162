"""Classifiers and taggers on a text encoder: the regression on frozen vectors, fine-tuning, and the honest report."""
