"""Set-up of the virtual environments, with the standard library alone."""
