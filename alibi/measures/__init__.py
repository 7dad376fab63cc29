"""Measures of reading: how far back a model's loss, attention and gradient go, and whether it copies from there.

Perplexity that stays flat in long windows shows that nothing breaks, not that the model uses distant tokens. Each
measure is a function of a trained model and a text. All read the same full windows, spread evenly over the text.
"""
