"""Scanners that are not ours, so that we do not mark our own homework: OpenSCAP and Lynis."""
