"""The install wizard: asks for the answers, shows the plan, applies it, on a full screen or line by line."""
