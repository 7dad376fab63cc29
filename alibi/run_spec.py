"""What one asks for: a training run, and what is kept beside it. One value each, the same on the command line."""

from dataclasses import dataclass

from alibi.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A training run as it is asked for; None is the scale's own, the corpus's or the machine's.

    `alibi.configuration.configure` makes of it everything that decides the run.
    """

    method: str
    """position method, such as alibi, sinusoidal, rotary or t5; an unknown one is answered with all there are."""
    corpus: str = "wikipedia-sample"
    """what to train on: a name that `python -m alibi data` knows."""
    tokenisation: str | None = None
    """words (by fairseq's rules), bytes (byte pairs) or bert; the corpus's own if left out."""
    scale: str = "quick"
    """quick (minutes on two cores), laptop (under an hour), gpu or paper."""
    train_length: int | None = None
    """tokens in a training block (L); the scale's own if left out."""
    seed: int = 1
    """of weights, data order and dropout."""
    steps: int | None = None
    """optimiser steps; the scale's own number if left out."""
    large: bool = False
    """train the scale's larger model, which stands for the paper's 1.3B parameters."""
    kernel: str = "automatic"
    """attention kernel: automatic, or a name of `alibi.attention.KERNELS`."""
    decay_window: float | None = None
    """how far heads see, in nats of a linear bias: 12 loses nothing that can be measured; no limit if left out."""
    device: str | None = None
    """cpu, cuda or mps (the GPU of a Mac); the scale's own if left out."""
    dtype: str | None = None
    """of the computing, bfloat16 or float32; what the device multiplies natively if left out."""
    tokens_at_once: int | None = None
    """tokens in one pass, of which several make a step where memory is short; the scale's own if left out."""
    compiled: bool | None = None
    """translate the model with torch.compile; on CUDA it is unless this says no."""
    activation_checkpointing: bool = False
    """compute layers again on the way back instead of keeping them: a third more time, a fraction of the memory."""
    official_tail_gap: bool = False
    """leave out of the loss what the official training leaves out (see `alibi.embedding`)."""


@dataclass(frozen=True, kw_only=True)
class Bookkeeping:
    """What is written and shown beside a run; none of it changes the weights."""

    checkpoint_every: int | None = None
    """steps between checkpoints; a twentieth of the run, at most 1000, if left out."""
    keep: int = 2
    """checkpoints that stay, the newest; all go when the run is finished."""
    validate_every: int | None = None
    """steps between validations, on the first 8,192 tokens at the training length; a fifth of the run if left out."""
    log_every: int = 10
    """steps between rows of the metrics."""
    tensorboard: bool = False
    """write the metrics for TensorBoard as well."""
    bar_row: int = 0
    """line of the terminal for the progress bar, where several runs are trained side by side."""

    def __post_init__(self) -> None:
        """Refuses numbers below 1.

        Raises:
            InputError: which names them.
        """
        for name in ("checkpoint_every", "keep", "validate_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value}: choose a number of at least 1")


BOOKKEEPING = Bookkeeping()
