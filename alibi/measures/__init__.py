"""What a model reads: how far back its loss, its attention and its gradient go, and whether it copies from there.

Perplexity that stays flat in long windows says that nothing breaks, and not that a distant token is used. Each measure
is a function of a trained model and a text. All read the same windows: full ones, spread evenly over the text.
"""
