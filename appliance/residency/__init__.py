"""Which models are in memory: what each needs, and who stays when not all fit."""
