"""The scales at which the paper is reproduced: the same names everywhere, each a model, a budget and a recipe."""

from dataclasses import dataclass

from alibi.errors import UnknownNameError
from alibi.model import ModelConfig


@dataclass(frozen=True)
class Scale:
    """What is trained at a scale; position method, corpus, training length and seed are chosen beside it."""

    name: str
    model: ModelConfig
    """Its shape; method and vocabulary are those of the run."""
    large: ModelConfig
    """What stands for the paper's 1.3B parameters beside its 247M."""
    train_length: int
    """Tokens in a training block where none is asked for."""
    paper_factor: int
    """A length stands for one so many times as long in the paper."""
    batch_tokens: int
    """Tokens in an optimiser step, the same for every training length."""
    tokens_at_once: int
    """Tokens in one pass forward and back; the gradients of several add up to a batch."""
    steps: int
    recipe: str
    """Optimiser, schedule and clipping, a name of `alibi.optim.RECIPES`."""
    learning_rate: float
    """The highest, reached after the warm-up."""
    warmup_steps: int
    threads: int | None
    """CPU threads, fixed where bits must repeat; None leaves torch's own choice."""
    device: str
    """cpu, or cuda."""
    # Of a corpus of the hub, none of which has to be fetched whole for a small budget; see `alibi.corpora.reading`.
    train_words: int | None = None
    """Words of training text that are read, from its beginning; None reads all."""
    vocabulary_size: int | None = None
    """Entries of a vocabulary of words: the most frequent of what is read, any other is <unk>; None keeps all."""


def paper_model(name: str, method: str = "alibi", vocabulary_size: int = 0) -> ModelConfig:
    """The paper's models: "247M" (WikiText-103; sections 2 and 4.1) and "1.3B" (CC100 + RoBERTa corpus; section 4.3).

    The first is fairseq's `transformer_lm_wiki103` over 267,744 words, with adaptive input and softmax. Of the second
    the paper gives layers, width, heads and feedforward width, neither vocabulary nor dropout: here GPT-2's 50,257
    byte pairs in one plain tied matrix, without dropout.

    Args:
        name: 247M or 1.3B.
        method: position method.
        vocabulary_size: entries; 0 takes the number above.

    Raises:
        ValueError: for another name.
    """
    if name == "247M":
        return ModelConfig(
            method,
            vocabulary_size or 267_744,
            layers=16,
            width=1024,
            heads=8,
            feedforward=4096,
            dropout=0.3,
            attention_dropout=0.1,
            activation_dropout=0.1,
            softmax_dropout=0.2,
            cutoffs=(20_000, 60_000),
        )
    if name == "1.3B":
        return ModelConfig(method, vocabulary_size or 50_257, layers=25, width=2048, heads=16, feedforward=8192)
    raise UnknownNameError("model of the paper", name, ("247M", "1.3B"))


SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        # For the two README commands, CI and the chapters' live runs: minutes on two cores, deterministic.
        Scale(
            name="quick",
            model=ModelConfig("alibi", 0, layers=4, width=256, heads=8, feedforward=1024),
            large=ModelConfig("alibi", 0, layers=4, width=320, heads=16, feedforward=1280),
            train_length=128,
            paper_factor=8,
            batch_tokens=2048,
            tokens_at_once=2048,
            steps=300,
            recipe="adamw",
            learning_rate=2e-3,
            warmup_steps=30,
            threads=1,
            device="cpu",
        ),
        # For a reader without a GPU: the paper's lengths divided by eight, about ten minutes a run on one core.
        Scale(
            name="laptop",
            model=ModelConfig(
                "alibi", 0, layers=4, width=256, heads=8, feedforward=1024, cutoffs=(5_000, 25_000), band_factor=4
            ),
            large=ModelConfig("alibi", 0, layers=4, width=384, heads=16, feedforward=1536),
            train_length=64,
            paper_factor=8,
            batch_tokens=3072,
            tokens_at_once=3072,
            steps=800,
            recipe="adamw",
            learning_rate=2e-3,
            warmup_steps=100,
            threads=1,
            device="cpu",
            train_words=20_000_000,
            vocabulary_size=32_768,
        ),
        # For one modern GPU: the paper's own lengths on a scaled-down model, minutes a run.
        Scale(
            name="gpu",
            model=ModelConfig(
                "alibi", 0, layers=8, width=512, heads=8, feedforward=2048, dropout=0.1, cutoffs=(10_000, 40_000)
            ),
            large=ModelConfig("alibi", 0, layers=12, width=1024, heads=16, feedforward=4096),
            train_length=512,
            paper_factor=1,
            batch_tokens=36864,
            tokens_at_once=36864,
            steps=5000,
            recipe="adamw",
            learning_rate=1e-3,
            warmup_steps=300,
            threads=None,
            device="cuda",
        ),
        # The paper's own WikiText-103 training: 247M parameters, 205 epochs, days on one large GPU.
        Scale(
            name="paper",
            model=paper_model("247M"),
            large=paper_model("1.3B"),
            train_length=512,
            paper_factor=1,
            batch_tokens=73_728,
            tokens_at_once=9216,
            steps=286_000,
            recipe="paper",
            learning_rate=1.0,
            warmup_steps=16_000,
            threads=None,
            device="cuda",
        ),
    )
}


def scale_named(name: str) -> Scale:
    """The scale of this name.

    Raises:
        ValueError: if there is none; the known names are listed.
    """
    if name not in SCALES:
        raise UnknownNameError("scale", name, SCALES)
    return SCALES[name]
