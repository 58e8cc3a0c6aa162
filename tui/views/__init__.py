"""What each screen says, as pure functions from API types to lines; shared by the full screen and the line mode."""
