"""Thin adapters to other people's tools. Each imports its package when it is used."""
