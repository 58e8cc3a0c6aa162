"""Textual screens: a common frame, the list, the reading screen and the dialogs."""
