"""Runs that consist of runs: their files, the rules they follow, and the one task that asks Optuna."""
