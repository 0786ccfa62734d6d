"""``frugal watch``: the real game beside the policy that plays it, as a video."""
