"""What the console can do to the appliance: a module for each screen, and `table`, which puts them together."""
