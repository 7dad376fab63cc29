"""Equality with the official code: its vectors, the recomputed quantities, and bounds on their rounding errors."""
