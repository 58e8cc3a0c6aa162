"""Data sets: rows out of files, canonical rows into a train and a held-out part."""
