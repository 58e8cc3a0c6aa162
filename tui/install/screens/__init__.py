"""The stages of the wizard on a full screen, and its dialogs."""
