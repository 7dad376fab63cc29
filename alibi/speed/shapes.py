"""Shapes of models for the benchmark, and a training of each on random tokens."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from alibi.configuration import TrainConfig
from alibi.corpora.corpus import Corpus, Split
from alibi.device import compute_dtype
from alibi.model import Decoder, ModelConfig, unmade
from alibi.train import Training

DECAY_WINDOW = 12.0
"""Nats of a linear bias that a head sees where the benchmark sets a decay window (`alibi.decay_window`)."""
_WINDOWED = "+window"


@dataclass(frozen=True)
class Contender:
    """A position method to measure, with or without a decay window."""

    method: str
    decay_window: float | None = None
    """Nats of a linear bias; None sets no limit."""

    @classmethod
    def named(cls, name: str) -> "Contender":
        """The contender of this name: "+window" at its end sets a decay window of `DECAY_WINDOW` nats."""
        return cls(name.removesuffix(_WINDOWED), DECAY_WINDOW if name.endswith(_WINDOWED) else None)

    @property
    def name(self) -> str:
        """The method's name, with "+window" at its end if it has a decay window."""
        return self.method if self.decay_window is None else self.method + _WINDOWED


ALIBI, WINDOWED_ALIBI = Contender("alibi"), Contender("alibi", DECAY_WINDOW)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model, a training length and the tokens of a step."""

    name: str
    size: str
    """Name of the model, which all its lengths share."""
    layers: int
    width: int
    heads: int
    length: int
    """L, tokens in a training block."""
    tokens: int
    """Tokens in a step."""
    vocabulary: int = 4096
    on_cpu: bool = True
    """Include this shape in "all" on a CPU too."""
    peers: bool = True
    """Time other libraries at this shape (off where their steps take too long, or all of them don't fit on a GPU)."""
    evaluated: bool = True
    """Also measure evaluation and memory, at up to 16 L."""
    rivals: tuple[Contender, ...] = ()
    """Further contenders of the whole table, besides sinusoidal and ALiBi."""

    @property
    def feedforward(self) -> int:
        """Four times the width."""
        return 4 * self.width

    def model(self, method: str, decay_window: float | None = None) -> ModelConfig:
        """The model with a position method, within a decay window (nats) or without one."""
        return ModelConfig(
            method,
            self.vocabulary,
            self.layers,
            self.width,
            self.heads,
            self.feedforward,
            longest=self.length,
            decay_window=decay_window,
        )

    def unmade(self, method: str) -> Decoder:
        """The model without memory for its weights, for counts of parameters and operations."""
        return unmade(self.model(method))


_SMALL = Shape(
    name="W1", size="W1", layers=4, width=256, heads=8, length=128, tokens=4096,
    rivals=(Contender("rotary"), Contender("t5")),
)  # fmt: skip
_MIDDLE = Shape(name="W2", size="W2", layers=6, width=512, heads=8, length=512, tokens=4096)
_LONGER = replace(_MIDDLE, peers=False, evaluated=False, rivals=(WINDOWED_ALIBI,))
_LARGE = Shape(
    name="large-512", size="large", layers=6, width=768, heads=16, length=512, tokens=4096, on_cpu=False, peers=False,
    evaluated=False,
)  # fmt: skip
_247M = Shape(
    name="247M-512", size="247M", layers=16, width=1024, heads=8, length=512, tokens=9216, vocabulary=32_768,
    on_cpu=False, rivals=(Contender("rotary"), Contender("t5"), WINDOWED_ALIBI),
)  # fmt: skip
_1300M = Shape(
    name="1.3B-512", size="1.3B", layers=25, width=2048, heads=16, length=512, tokens=8192, vocabulary=50_304,
    on_cpu=False, peers=False,
)  # fmt: skip

SHAPES = {
    shape.name: shape
    for shape in (
        _SMALL,
        _MIDDLE,
        replace(_LONGER, name="W2-1024", length=1024),
        replace(_LONGER, name="W2-3072", length=3072, tokens=3072),
        _LARGE,
        replace(_LARGE, name="large-1024", length=1024),
        replace(_LARGE, name="large-2048", length=2048),
        _247M,
        replace(_247M, name="247M-1024", length=1024),
        replace(_247M, name="247M-3072", length=3072),
        _1300M,
        replace(_1300M, name="1.3B-1024", length=1024),
        replace(_1300M, name="1.3B-2048", length=2048),
    )
}
DEFAULT_SHAPES = {"cpu": ("W1", "W2"), "cuda": ("247M-512", "247M-1024", "247M-3072"), "mps": ("W1", "W2")}


def training(shape: Shape, contender: Contender, kernel: str, device: str, compiled: bool) -> Training:
    """A training of this shape on random tokens, before its first step.

    Args:
        shape: shape of the model and its batches.
        contender: position method and decay window.
        kernel: attention kernel, or "automatic".
        device: cpu, cuda or mps.
        compiled: compile the model with torch.compile.

    Raises:
        InputError: for an unknown method, or a decay window with a method that has no linear bias.
    """
    config = TrainConfig(
        corpus="random",
        tokenisation="words",
        stream_sha256="",
        model=shape.model(contender.method, contender.decay_window),
        scale="bench",
        train_length=shape.length,
        batch_tokens=shape.tokens,
        steps=10_000,
        recipe="adamw",
        learning_rate=1e-4,
        warmup_steps=100,
        seed=1,
        dtype=compute_dtype(device),
        device=device,
        kernel=kernel,
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        tokens_at_once=shape.tokens,
        compiled=compiled,
    )
    split = random_split(shape, 64 * shape.tokens)
    return Training(config, Corpus("random", "", "", "", "", "words", shape.vocabulary, 0, {"train": split}, Path()))


def random_split(shape: Shape, tokens: int) -> Split:
    """A split of this many random tokens from the shape's vocabulary."""
    stream = np.random.default_rng(0).integers(shape.vocabulary, size=tokens, dtype=np.uint16)
    return Split("train", stream, tokens, tokens, 1, "")
