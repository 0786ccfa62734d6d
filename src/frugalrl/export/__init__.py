"""``frugal export``: a run's policy as a file that loads without this package."""
