"""The command line: one module per noun, loaded only when its verb is used. A thin client of the control API."""
