"""Conversion: a Hugging Face folder becomes one GGUF file, and is proven to give the same tokens."""
