"""The scales of the reproduction: each is a model, a budget and a recipe, under the same name everywhere."""

from dataclasses import dataclass

from alibi.errors import UnknownNameError
from alibi.model import ModelConfig


@dataclass(frozen=True)
class Scale:
    """Model and training of a scale; a run adds the position method, corpus, training length and seed."""

    name: str
    model: ModelConfig
    """Shape of the model; the run sets method and vocabulary."""
    large: ModelConfig
    """The larger model, for the paper's 1.3B parameters beside its 247M."""
    train_length: int
    """Tokens in a training block, unless a run asks for another length."""
    paper_factor: int
    """Multiply a length by this to get the paper's length that it stands for."""
    batch_tokens: int
    """Tokens in an optimiser step, the same for every training length."""
    tokens_at_once: int
    """Tokens in one forward and backward pass; the gradients of several passes add up to a batch."""
    steps: int
    recipe: str
    """Optimiser, schedule and clipping, a name of `alibi.optim.RECIPES`."""
    learning_rate: float
    """The highest rate, at the end of the warm-up."""
    warmup_steps: int
    threads: int | None
    """CPU threads, fixed for bits that repeat; None keeps torch's choice."""
    device: str
    """The device of a run that asks for none: cpu or cuda."""
    # For a corpus of the hub: a small budget need not fetch all of it; see `alibi.corpora.reading`.
    train_words: int | None = None
    """Words to read from the beginning of the training text; None reads all."""
    vocabulary_size: int | None = None
    """Words in a vocabulary of words: the most frequent that are read, others are <unk>; None keeps all."""


def paper_model(name: str) -> ModelConfig:
    """The paper's ALiBi models: "247M" (WikiText-103; sections 2 and 4.1) and "1.3B" (CC100 + RoBERTa corpus; 4.3).

    The first is fairseq's `transformer_lm_wiki103` over 267,744 words, with adaptive input and softmax. For the second
    the paper gives layers, width, heads and feedforward width, but neither vocabulary nor dropout: here it has GPT-2's
    50,257 byte pairs in one plain tied matrix, and no dropout.

    Args:
        name: 247M or 1.3B.

    Raises:
        InputError: for another name.
    """
    if name == "247M":
        return ModelConfig(
            "alibi",
            267_744,
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
        return ModelConfig("alibi", 50_257, layers=25, width=2048, heads=16, feedforward=8192)
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
        # For a reader without a GPU: the paper's lengths divided by eight, 18 to 66 minutes a run on one core with
        # bfloat16. Trained at 384 on free Wikipedia articles, ALiBi was 0.6 nats ahead of a trigram with a cache on
        # WikiText-103's validation text (gate b) and gained 0.040 nats from 64 to 384 words of context (gate a: 0.05).
        Scale(
            name="laptop",
            model=ModelConfig(
                "alibi", 0, layers=4, width=256, heads=8, feedforward=1024, cutoffs=(4096,), band_factor=1
            ),
            large=ModelConfig("alibi", 0, layers=4, width=384, heads=16, feedforward=1536),
            train_length=64,
            paper_factor=8,
            batch_tokens=1536,
            tokens_at_once=1536,
            steps=5800,
            recipe="adamw-small-batch",
            learning_rate=3e-3,
            warmup_steps=200,
            threads=1,
            device="cpu",
            train_words=20_000_000,
            vocabulary_size=16_384,
        ),
        # For one modern GPU: the paper's own lengths on a scaled-down model, minutes a run: one pass over WikiText-103.
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
            steps=2800,
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
        InputError: for an unknown name; the message lists the known ones.
    """
    if name not in SCALES:
        raise UnknownNameError("scale", name, SCALES)
    return SCALES[name]
