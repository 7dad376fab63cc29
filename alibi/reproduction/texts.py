"""The texts of an experiment: its own, or another that a reader chooses."""

from dataclasses import dataclass

from alibi.corpora.corpus import split_names
from alibi.corpora.folders import STAND_INS
from alibi.corpora.reading import Reading


@dataclass(frozen=True)
class Text:
    """The training text, and the text evaluated in its vocabulary (the same corpus if left out)."""

    train: str
    evaluate: str | None = None
    tokenisation: str | None = None
    """Words, bytes, bert or gpt2; None takes the corpus's own."""


def text_named(corpus: str | None, default: Text) -> Text:
    """The text that a reader chose, or the experiment's own.

    Models are evaluated on its own validation split or, for a stand-in without one, on the corpus that it stands for. A
    part of the experiment's own corpus keeps its tokenisation.

    Args:
        corpus: a name that `alibi.corpora.corpus.load` knows; None takes the default.
        default: the experiment's text.

    Raises:
        InputError: for an unknown name; the message lists the known ones.
    """
    if corpus is None or corpus == default.train:
        return default
    of = Reading.named(corpus).corpus
    held_out, stand_in = "valid" in split_names(corpus), STAND_INS.get(of)
    own = default.tokenisation if of == Reading.named(default.train).corpus else None
    return Text(corpus, None if held_out or stand_in is None else stand_in.evaluated_on, own)
