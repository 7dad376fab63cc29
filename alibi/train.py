"""The training loop: one configuration and a token stream in, weights, configuration and metrics out."""

import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from alibi.attention import choose_kernel
from alibi.corpus import Corpus
from alibi.device import compute_dtype, computing, settle_cpu
from alibi.model import Decoder, ModelConfig
from alibi.optim import adamw, warmup_cosine
from alibi.positions import METHODS
from alibi.records import provenance
from alibi.scale import scale_named
from alibi.windows import TrainingOrder

WEIGHTS, CONFIG, METRICS = "model.safetensors", "config.json", "metrics.jsonl"
CLIP = 1.0
STEPS_A_METRIC = 10


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the bits of a training run."""

    corpus: str
    stream_sha256: str
    """Of the training split's tokens."""
    model: ModelConfig
    scale: str
    train_length: int
    batch_tokens: int
    steps: int
    learning_rate: float
    warmup_steps: int
    seed: int
    device: str
    dtype: str
    """Of the computing; weights, softmax and loss stay float32."""
    kernel: str
    threads: int
    torch_version: str


class TrainingError(RuntimeError):
    """A run that can't go on, or can't begin."""


def configure(
    method: str,
    corpus: Corpus,
    scale: str = "quick",
    train_length: int = 0,
    seed: int = 1,
    steps: int = 0,
    kernel: str = "automatic",
) -> TrainConfig:
    """The configuration of a run: what the scale says, with the choices that are made beside it.

    Args:
        method: position method, a name of `alibi.positions.METHODS`.
        corpus: what to train on.
        scale: a name of `alibi.scale.SCALES`.
        train_length: tokens in a block; 0 takes the scale's own.
        seed: of weights, order and dropout.
        steps: optimiser steps; 0 takes the scale's own number.
        kernel: attention kernel, a name of `alibi.attention.KERNELS` or "automatic".

    Raises:
        ValueError: for an unknown method, scale or kernel, or a number out of range; known names are listed.
        TrainingError: if the scale's device is not there.
    """
    if method not in METHODS:
        raise ValueError(f"no position method is named {method!r}; known are {', '.join(METHODS)}")
    chosen = scale_named(scale)
    train_length, steps = train_length or chosen.train_length, steps or chosen.steps
    if not 1 <= train_length <= chosen.batch_tokens:
        raise ValueError(f"train_length={train_length}: choose 1 to {chosen.batch_tokens}, a batch at scale {scale}")
    if steps < 1 or seed < 0:
        raise ValueError(f"steps={steps}, seed={seed}: a run takes at least one step, and a seed is not negative")
    choose_kernel(chosen.device, train_length, True, kernel)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"scale {scale} needs a CUDA GPU and torch sees none; quick and laptop run on a CPU")
    return TrainConfig(
        corpus=corpus.name,
        stream_sha256=corpus.splits["train"].sha256,
        model=ModelConfig(
            method=method,
            vocabulary_size=corpus.vocabulary_size,
            layers=chosen.layers,
            width=chosen.width,
            heads=chosen.heads,
            feedforward=chosen.feedforward,
            dropout=chosen.dropout,
            longest=train_length if METHODS[method].limited else 0,
        ),
        scale=scale,
        train_length=train_length,
        batch_tokens=chosen.batch_tokens,
        steps=steps,
        learning_rate=chosen.learning_rate,
        warmup_steps=min(chosen.warmup_steps, steps),
        seed=seed,
        device=chosen.device,
        dtype=compute_dtype(chosen.device),
        kernel=kernel,
        threads=chosen.threads or torch.get_num_threads(),
        torch_version=torch.__version__,
    )


def train(config: TrainConfig, corpus: Corpus, folder: Path, bar_row: int = 0) -> None:
    """Trains a model and writes its weights, configuration and metrics into the folder.

    The loss of a step is the mean negative log-likelihood of its tokens, in nats. A folder that holds the finished
    run of this configuration is left as it is.

    Raises:
        TrainingError: if the folder holds a run of another configuration, the corpus is another one, or the loss
            or the gradient is no longer finite (before the optimiser steps).
        ValueError: if the corpus does not fill a batch, or holds an id outside the vocabulary.
    """
    if (folder / CONFIG).is_file():
        _refuse_other(folder, config)
        return
    split = corpus.splits["train"]
    if split.sha256 != config.stream_sha256:
        raise TrainingError(f"corpus {corpus.name} has training stream {split.sha256}, not {config.stream_sha256}")
    if (largest := int(split.tokens.max())) >= config.model.vocabulary_size:
        raise ValueError(f"token id {largest} does not fit a vocabulary of {config.model.vocabulary_size} entries")
    settle_cpu(config.threads)
    torch.manual_seed(config.seed)
    model = Decoder(config.model, config.kernel).to(config.device).train()
    batch = config.batch_tokens // config.train_length
    kernel = choose_kernel(config.device, config.train_length, True, config.kernel)
    tqdm.write(f"{config.model.method}: {model.parameter_count():,} parameters, attention kernel {kernel}", sys.stderr)
    order = TrainingOrder(split.tokens, corpus.end_of_line, config.train_length, batch, config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    _loop(config, model, order, folder, bar_row)
    facts = provenance(config.device) | {
        "parameters": model.parameter_count(),
        "attention_kernel": kernel,
        "tokens": config.steps * batch * config.train_length,
        "seconds": round(time.perf_counter() - started, 1),
    }
    _write(folder / WEIGHTS, lambda path: save_file(model.state_dict(), path))
    _write(folder / CONFIG, lambda path: path.write_text(json.dumps(asdict(config) | {"run": facts}, indent=2) + "\n"))


def _loop(config: TrainConfig, model: Decoder, order: TrainingOrder, folder: Path, bar_row: int) -> None:
    optimizer = adamw(model, config.learning_rate)
    schedule = warmup_cosine(optimizer, config.warmup_steps, config.steps)
    tokens_a_step = order.batch * order.length
    total = config.steps * tokens_a_step
    label = f"{config.model.method:10}"
    bar = tqdm(total=total, unit=" tokens", unit_scale=True, desc=label, position=bar_row, mininterval=0.5)
    with bar, open(folder / METRICS, "w", encoding="utf-8") as metrics:
        for step in range(config.steps):
            sources_BT, targets_BT = (t.to(config.device) for t in order(step))
            with computing(config.device, config.dtype):
                loss = model.negative_log_likelihood(sources_BT, targets_BT).mean()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            # Both in one transfer: each would make a GPU wait.
            nats, gradient_norm = torch.stack([loss.detach(), norm]).tolist()
            if not math.isfinite(nats) or not math.isfinite(gradient_norm):
                raise TrainingError(
                    f"step {step}: loss {nats}, gradient norm {gradient_norm}; "
                    f"a smaller learning rate than {config.learning_rate} may help"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bar.update(tokens_a_step)
            if step % STEPS_A_METRIC == 0 or step == config.steps - 1:
                bar.set_postfix(loss=f"{nats:.3f}")
                row = {
                    "step": step,
                    "tokens": (step + 1) * tokens_a_step,
                    "loss": nats,
                    "gradient_norm": gradient_norm,
                    "learning_rate": schedule.get_last_lr()[0],
                }
                metrics.write(json.dumps(row) + "\n")
            schedule.step()


def _refuse_other(folder: Path, config: TrainConfig) -> None:
    stored, asked = asdict(read_config(folder)), asdict(config)
    differing = [name for name in asked if stored[name] != asked[name]]
    if differing:
        rows = "; ".join(f"{name} is {stored[name]}, asked for {asked[name]}" for name in differing)
        raise TrainingError(f"{folder} holds another run ({rows}): choose another folder")


def _write(path: Path, write: Any) -> None:
    # A file is there whole or not at all, whenever the process ends.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(temporary)
    os.replace(temporary, path)


def read_config(folder: Path) -> TrainConfig:
    """The configuration of the run in this folder.

    Raises:
        TrainingError: if the folder holds no finished run.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise TrainingError(f"{folder} holds no finished run: {CONFIG} is missing; train one with --out {folder}")
    fields = json.loads(path.read_text())
    fields.pop("run")
    return TrainConfig(**fields | {"model": ModelConfig(**fields["model"])})


def load_model(folder: Path, device: str = "cpu") -> Decoder:
    """The trained model in this folder, ready to evaluate.

    Raises:
        TrainingError: if the folder holds no finished run.
    """
    config = read_config(folder)
    model = Decoder(config.model, config.kernel)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.to(device).eval()
