"""``frugal watch``: the real game beside the Q-values that play it, as a video."""
