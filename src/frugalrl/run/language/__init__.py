"""Runs whose environment is a task for language models."""
