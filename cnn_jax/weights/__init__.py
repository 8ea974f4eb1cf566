"""Weights in files: our own names for them, and those of other libraries."""
