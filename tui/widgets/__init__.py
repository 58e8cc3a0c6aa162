"""The few widgets of the console: key bar, list, reading pane, buttons."""
