"""Leaves that everything may import and that import nothing of ours."""
