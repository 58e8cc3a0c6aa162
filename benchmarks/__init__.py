"""Measurements against the peers: llama-server for serving, TRL for training. Not part of the gate."""
