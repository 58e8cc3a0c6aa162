"""Jobs: a canonical specification, one process each, sealed results. The daemon never runs their work itself."""
