"""Train Short, Test Long: the ALiBi paper (Press, Smith, Lewis, ICLR 2022) as a package.

The models with each position method, the training loop and the evaluation; the book's chapters are written with it.
"""

__version__ = "0.1.0"
