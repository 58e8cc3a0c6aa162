"""The tour: the whole way once, in verbs that anybody could type. It has no authority and no shortcut of its own."""
