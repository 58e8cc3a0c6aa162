"""The boxes that train together: who they are, and how one asks another's rank host."""
