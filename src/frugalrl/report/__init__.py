"""Reads the records of runs and says what they show; runs nothing."""
