"""Protocols of measurements, by their names in records."""

NONOVERLAPPING, SLIDING, AGAINST_ITSELF, CACHE = "nonoverlapping", "sliding_window", "against_itself", "cache"
SLOPES = "slopes"
"""Of the slopes of a run's heads, which need no text."""
TRUNCATED, REPEATS, ATTENTION, GRADIENT = "truncated_", "repeats", "attention", "gradient"
READING = (f"{TRUNCATED}attention", f"{TRUNCATED}window", REPEATS, ATTENTION, GRADIENT)
"""Protocols of the measures of reading, see `alibi.reproduction.reading`."""
