"""The first tokens of articles in a stream: the loss varies by article, so errors of means are taken over articles."""

import numpy as np

from alibi.corpora.corpus import Corpus
from alibi.corpora.source import is_title


def article_starts(corpus: Corpus, split: str, tokens: np.ndarray, end_of_line: int) -> np.ndarray | None:
    """The place of each article's first token in a stream; None if its text marks fewer than two articles.

    An article begins at its title, a line such as " = Title = "; the first article begins with the stream. Two lines of
    a formula in WikiText-103's test split look so too: its 60 articles count as 62.

    Args:
        corpus: the text that the stream encodes.
        split: name of the split.
        tokens: the stream, or a beginning of it, in any vocabulary.
        end_of_line: id of the end-of-line token, which ends every line. A text of words that holds `</s>` itself has
            more of them, as in fairseq: later articles then begin at wrong tokens.
    """
    if corpus.splits[split].articles < 2:
        return None
    lines = np.concatenate([[0], np.flatnonzero(tokens == end_of_line) + 1])
    titles = [is_title(line) for line in corpus.text(split).split("\n")[: len(lines)]]
    starts = lines[: len(titles)][titles]
    starts = starts[starts < len(tokens)]
    return np.concatenate([[0], starts[1:]]) if len(starts) > 1 else None
