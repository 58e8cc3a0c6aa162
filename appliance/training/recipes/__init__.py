"""What a person may choose about a training run: one struct for each kind, and the table of the kinds."""
