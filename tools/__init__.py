"""Programs for people who work on this repository: set-up, locks, generated pages. The product never imports them."""
