"""Backups: consistent snapshots of a state directory in a restic repository, and restores that prove themselves."""
