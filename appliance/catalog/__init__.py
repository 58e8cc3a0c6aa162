"""Model files: where their bytes lie, and what they say of themselves."""
