"""Equality with the official code: its vectors, each quantity computed again, and how far rounding may move it."""
