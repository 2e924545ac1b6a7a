"""The words of a verdict that every question has."""

YES, NO, CANNOT_TELL = "yes", "no", "cannot tell"
