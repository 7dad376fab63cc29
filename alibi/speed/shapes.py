"""What the benchmark measures at: shapes of models, and a training of each on random tokens."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from alibi.configuration import TrainConfig
from alibi.corpora.corpus import Corpus, Split
from alibi.device import compute_dtype
from alibi.model import Decoder, ModelConfig
from alibi.train import Training

# How far heads see under a method's name with this ending: see `alibi.decay_window`.
WINDOWED, DECAY_WINDOW = "+window", 12.0


@dataclass(frozen=True)
class Shape:
    """A model, a training length and the tokens of a step."""

    name: str
    layers: int
    width: int
    heads: int
    length: int
    tokens: int
    vocabulary: int = 4096
    peers: bool = True
    """Whether other libraries are measured at it: where a bar is set, since their steps are long."""
    evaluated: bool = True
    """Whether memory and evaluation are, up to 16 times the length."""
    rivals: tuple[str, ...] = ()
    """Methods that the whole table has beside sinusoidal and ALiBi."""

    @property
    def feedforward(self) -> int:
        """Four times the width."""
        return 4 * self.width

    def model(self, method: str) -> ModelConfig:
        """The model with a position method, its name ending in "+window" for a decay window of `DECAY_WINDOW` nats."""
        return ModelConfig(
            method.removesuffix(WINDOWED),
            self.vocabulary,
            self.layers,
            self.width,
            self.heads,
            self.feedforward,
            longest=self.length,
            decay_window=DECAY_WINDOW if method.endswith(WINDOWED) else None,
        )

    def unmade(self, method: str) -> Decoder:
        """The model without memory for its weights, to count with."""
        with torch.device("meta"):
            return Decoder(self.model(method))


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("W1", 4, 256, 8, 128, 4096, rivals=("rotary", "t5")),
        Shape("W2", 6, 512, 8, 512, 4096),
        Shape("W2-1024", 6, 512, 8, 1024, 4096, peers=False, evaluated=False, rivals=("alibi+window",)),
        Shape("W2-3072", 6, 512, 8, 3072, 3072, peers=False, evaluated=False, rivals=("alibi+window",)),
        Shape("large-512", 6, 768, 16, 512, 4096, peers=False, evaluated=False),
        Shape("large-1024", 6, 768, 16, 1024, 4096, peers=False, evaluated=False),
        Shape("large-2048", 6, 768, 16, 2048, 4096, peers=False, evaluated=False),
        Shape("247M-512", 16, 1024, 8, 512, 9216, 32_768, rivals=("rotary", "t5", "alibi+window")),
        Shape("247M-1024", 16, 1024, 8, 1024, 9216, 32_768, rivals=("rotary", "t5", "alibi+window")),
        Shape("247M-3072", 16, 1024, 8, 3072, 9216, 32_768, rivals=("rotary", "t5", "alibi+window")),
        Shape("1.3B-512", 25, 2048, 16, 512, 8192, 50_304),
        Shape("1.3B-1024", 25, 2048, 16, 1024, 8192, 50_304),
        Shape("1.3B-2048", 25, 2048, 16, 2048, 8192, 50_304),
    )
}
DEFAULT_SHAPES = {"cpu": ("W1", "W2"), "cuda": ("247M-512", "247M-1024", "247M-3072"), "mps": ("W1", "W2")}


def training(shape: Shape, method: str, kernel: str, device: str, compiled: bool) -> Training:
    """A training of this shape on random tokens, before its first step.

    Args:
        shape: of the model and its batches.
        method: a position method; with "+window" at its end, within a decay window of `DECAY_WINDOW` nats.
        kernel: attention kernel, or "automatic".
        device: cpu, cuda or mps.
        compiled: translate the model with torch.compile.

    Raises:
        ValueError: for an unknown method, or one without a linear bias that is asked for a window.
    """
    config = TrainConfig(
        corpus="random",
        tokenisation="words",
        stream_sha256="",
        model=shape.model(method),
        scale="bench",
        train_length=shape.length,
        batch_tokens=shape.tokens,
        steps=10_000,
        recipe="adamw",
        learning_rate=1e-4,
        warmup_steps=100,
        seed=1,
        official_tail_gap=False,
        dtype=compute_dtype(device),
        device=device,
        kernel=kernel,
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        tokens_at_once=shape.tokens,
        compiled=compiled,
        activation_checkpointing=False,
    )
    split = random_split(shape, 64 * shape.tokens)
    return Training(config, Corpus("random", "", "", "", "", "words", shape.vocabulary, 0, {"train": split}, Path()))


def random_split(shape: Shape, tokens: int) -> Split:
    """So many random tokens of the shape's vocabulary."""
    stream = np.random.default_rng(0).integers(shape.vocabulary, size=tokens, dtype=np.uint16)
    return Split("train", stream, tokens, tokens, 1, "")
