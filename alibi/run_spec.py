"""A request: the specification of a training run, and its bookkeeping. Both are flags of the command line too."""

import os
from dataclasses import dataclass

from alibi.errors import InputError, quoted

# Seeds are below it: records hold integers of 64 bits with a sign.
SEEDS = 2**63


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A request for a training run; None stands for the default of the scale, the corpus or the machine.

    `alibi.configuration.configure` turns it into the complete configuration.
    """

    method: str
    """position method, such as alibi, sinusoidal, rotary or t5; the error for an unknown name lists all."""
    corpus: str = "wikipedia-sample"
    """corpus to train on: a name that `python -m alibi data` knows."""
    tokenisation: str | None = None
    """words (by fairseq's rules), bytes (byte pairs), bert or gpt2; the corpus's own if left out."""
    scale: str = "quick"
    """quick (minutes on two cores), laptop (minutes to three hours on a core), gpu or paper."""
    train_length: int | None = None
    """tokens in a training block (L); the scale's own if left out."""
    seed: int = 1
    """seed of weights, data order and dropout."""
    data_seed: int | None = None
    """seed of the data order alone; the seed of the run if left out."""
    steps: int | None = None
    """optimiser steps; the scale's own number if left out."""
    learning_rate: float | None = None
    """highest learning rate; the scale's own if left out."""
    method_rate: float | None = None
    """factor of the learning rate for the position method's own parameters, such as the table of the T5 bias, under
    AdamW; from the budget if left out (see `alibi.optim`)."""
    large: bool = False
    """train the scale's larger model, which stands for the paper's 1.3B parameters."""
    kernel: str = "automatic"
    """attention kernel: automatic, or a name of `alibi.attention.KERNELS`."""
    decay_window: float | None = None
    """nats of a linear bias that a head sees: 12 has no measurable effect on the loss; no limit if left out."""
    device: str | None = None
    """cpu, cuda or mps (the GPU of a Mac); the scale's own if left out."""
    dtype: str | None = None
    """dtype of the computation, bfloat16 or float32; the device's native one if left out."""
    tokens_at_once: int | None = None
    """tokens in one forward and backward pass, at least one block; a smaller number takes more passes for a step and
    less memory; the scale's own if left out."""
    compiled: bool | None = None
    """translate the model with torch.compile; if left out, on CUDA only."""
    activation_checkpointing: bool = False
    """compute layers again in the backward pass instead of keeping them: a third more time, a fraction of the
    memory."""
    parallel: str | None = None
    """how the processes of torchrun share a run: ddp (each has the whole model) or fsdp (each has a part of its
    weights, gradients and optimiser state); ddp if left out."""
    lanes: int | None = None
    """number of shares of a streamed text that are read side by side: a multiple of the number of processes, and a
    divisor of the blocks in a step; if left out 2, or 1 for an odd number of blocks. A run keeps it: choose it for the
    most processes that may go on with the run."""
    official_tail_gap: bool = False
    """leave out of the loss the terms that the official training leaves out (see `alibi.embedding`)."""


@dataclass(frozen=True, kw_only=True)
class Bookkeeping:
    """Checkpoints, validations, metrics and progress beside a run; none of them changes the weights."""

    checkpoint_every: int | None = None
    """steps between checkpoints; a twentieth of the run, at most 1000, if left out."""
    keep: int = 2
    """number of newest checkpoints to keep; a finished run removes all."""
    validate_every: int | None = None
    """steps between validations, on the first 8,192 tokens at the training length; a fifth of the run if left out."""
    log_every: int = 10
    """steps between rows of the metrics."""
    tensorboard: bool = False
    """write the metrics for TensorBoard as well."""
    bar_row: int = 0
    """line of the terminal for the progress bar, where several runs train side by side."""

    def check(self) -> None:
        """Refuses numbers below 1. Making one does not: the parser of the command line would hide the error.

        Raises:
            InputError: for a number below 1; the message names it.
        """
        for name in ("checkpoint_every", "keep", "validate_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value}: choose a number of at least 1")


BOOKKEEPING = Bookkeeping()


def smoke_steps() -> int | None:
    """The steps that the environment variable ALIBI_SMOKE limits a training to; None if it is not set.

    Raises:
        InputError: if it is not a number of steps.
    """
    asked = os.environ.get("ALIBI_SMOKE")
    if not asked:
        return None
    try:
        steps = int(asked)
    except ValueError:
        steps = 0
    if steps < 1:
        raise InputError(f"ALIBI_SMOKE is {quoted(asked)}: choose a number of steps, at least 1, or unset it")
    return steps
