"""Pure functions of arrays: no modules, no config objects with behaviour, randomness only as an argument.

Import the module you need. ``explore`` and ``schedules`` need numpy only; ``td`` imports torch.
"""
