"""The installer's verbs of the command line: one module for each noun, named in the table of `appliance.cli.main`."""
