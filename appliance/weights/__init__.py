"""Model weights in memory: one strict way to load a Hugging Face folder, for every job that needs torch."""
