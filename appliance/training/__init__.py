"""Training: a seed model from nothing, LoRA fine-tuning, and a loop that a power cut cannot make differ."""
