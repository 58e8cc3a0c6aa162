"""The console: full screen in Textual, or a numbered menu. A thin client of the control API, with no authority."""
