"""The chapters' parameters in one table; the command line and each chapter's first cell check values by it."""

from collections.abc import Collection
from dataclasses import dataclass

from alibi.corpora.reading import Reading
from alibi.errors import InputError, listed, quoted
from alibi.scale import SCALES


class ParameterError(InputError):
    """A chapter got an unknown parameter or an impossible value."""


@dataclass(frozen=True)
class Number:
    """A whole number between two bounds, both included."""

    meaning: str
    smallest: int
    largest: int
    multiple: int = 1
    """It is a multiple of this."""

    @property
    def allowed(self) -> str:
        """The values that are right, in words."""
        kind = "whole number" if self.multiple == 1 else f"multiple of {self.multiple}"
        return f"a {kind} from {self.smallest} to {self.largest}"

    def admits(self, value: object) -> bool:
        """Whether the value has the right type and is in range; True and False are not numbers."""
        return type(value) is int and self.smallest <= value <= self.largest and value % self.multiple == 0

    def read(self, text: str) -> object:
        """The number in the text, or the text itself, which `admits` refuses."""
        try:
            return int(text)
        except ValueError:
            return text


@dataclass(frozen=True)
class Name:
    """One of a few known names."""

    meaning: str

    @property
    def known(self) -> Collection[str]:
        """The names, in the order of the registry that holds them."""
        return SCALES

    @property
    def allowed(self) -> str:
        """The values that are right, in words."""
        return f"one of {listed(self.known)}"

    def admits(self, value: object) -> bool:
        """Whether the value is a known name."""
        return isinstance(value, str) and value in self.known

    def read(self, text: str) -> object:
        """The text itself."""
        return text


class CorpusName(Name):
    """A name of the registry of corpora."""

    @property
    def known(self) -> Collection[str]:
        """The names that `alibi.corpora.corpus.load` knows with the splits that a chapter reads."""
        # Imported here: a chapter without a corpus does not need the modules that read one.
        from alibi.corpora.corpus import names

        return names("train", "valid")

    def admits(self, value: object) -> bool:
        """Whether the value is a known name, also one with the part to read, such as "wikitext-103, first 1M words"."""
        try:
            return isinstance(value, str) and super().admits(Reading.named(value).corpus)
        except InputError:  # No words, or a vocabulary without room for one.
            return False


PARAMETERS: dict[str, Number | Name] = {
    "scale": Name("size of the models and length of the training"),
    "corpus": CorpusName("text with a training and a validation split"),
    # Chapters read windows of L with a stride of L / 4.
    "train_length": Number("tokens in a training block (L)", 16, 4096, multiple=4),
    "evaluation_length": Number("tokens in an evaluation window (L_valid), at least the paper's", 3072, 65536),
    "train_missing": Number("whether cells without a record are trained: 0 or 1", 0, 1),
    "seeds": Number("seeds of the cells that are trained, from 0 on", 1, 10),
    "stride": Number("new tokens that each evaluation window brings; 0 takes half of train_length", 0, 4096),
    "steps": Number("optimiser steps; 0 takes the scale's own number", 0, 1_000_000),
    "heads": Number("attention heads of a layer", 1, 128),
    "seed": Number("of weights, data order and dropout", 0, 2**31 - 1),
}


def check(**values: object) -> None:
    """Refuses impossible parameters; each chapter calls it right after its `parameters` cell.

    Raises:
        ParameterError: for an unknown name, a wrong type or a value out of range; the message lists the allowed ones.
            Also for a train_length beyond a batch of the scale, if both are among the values.
    """
    for name, value in values.items():
        parameter = _named(name)
        if not parameter.admits(value):
            raise ParameterError(f"{name} = {value!r} must be {parameter.allowed} ({parameter.meaning})")
    scale, length = values.get("scale"), values.get("train_length")
    if isinstance(scale, str) and isinstance(length, int) and length > (most := SCALES[scale].batch_tokens):
        raise ParameterError(f"train_length = {length} must be at most {most}, the tokens of a batch at scale {scale}")


def check_text(corpus: str, train_length: int, windows: int) -> None:
    """Refuses a text whose validation split is shorter than the longest windows of a chapter, before any training.

    Args:
        corpus: a name that `check` has admitted.
        train_length: L, tokens.
        windows: the longest windows in multiples of L.

    Raises:
        ParameterError: it names the text, its tokens and the windows.
    """
    from alibi.corpora.corpus import load

    tokens = len(load(corpus).split("valid").tokens)
    if tokens < windows * train_length:
        raise ParameterError(
            f"corpus = {corpus!r} has {tokens:,} tokens in its validation split, and the chapter reads windows of "
            f"{windows} train_length = {windows * train_length:,}: choose a longer text or a smaller train_length"
        )


def parse(name: str, text: str) -> int | str:
    """The value of `name=text` on the command line.

    Raises:
        ParameterError: as in `check`.
    """
    value = _named(name).read(text)
    check(**{name: value})
    assert isinstance(value, int | str)
    return value


def _named(name: str) -> Number | Name:
    if name not in PARAMETERS:
        raise ParameterError(f"unknown parameter {quoted(name)}; choose from {listed(PARAMETERS)}")
    return PARAMETERS[name]
