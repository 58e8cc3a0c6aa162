"""Live checks, one module a topic. Each is a pure function of a check and what the machine answers."""
