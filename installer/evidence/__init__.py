"""Evidence: what of the hardening is in effect on this box, checked live, signed, chained, and comparable.

Nothing here changes the box. A verdict names the value it saw and the command that shows it, so that anybody can look.
"""
