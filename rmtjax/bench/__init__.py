"""The same work by us and by others, in one run, as ratios."""
