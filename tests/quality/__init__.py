"""The gate over the sources themselves. Each failing test prints the command that fixes or shows it."""
