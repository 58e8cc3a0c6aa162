"""The registry's words: references, stages, lineage. Pure; the rows are written by services."""
