"""One training run on several processes that share the weights: placement, the launcher, what one rank does."""
