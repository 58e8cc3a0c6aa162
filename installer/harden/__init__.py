"""Hardening that can be taken back: the lifeline around risky changes, and the journal of what a run changed."""
