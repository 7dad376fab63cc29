"""Everything that decides a training run, and what of it a run in a folder was made with."""

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import torch

from alibi.attention import choose_kernel
from alibi.corpus import Corpus
from alibi.device import DEVICES, DTYPES, compute_dtype, is_here
from alibi.model import ModelConfig
from alibi.positions import METHODS, NoBias, position_method
from alibi.progress import say
from alibi.scale import scale_named

CONFIG = "config.json"
# These decide the last bits of a run and not what is learned: a run may go on with others, and is told so.
MACHINE = ("device", "kernel", "threads", "torch_version", "tokens_at_once", "compiled", "activation_checkpointing")


class TrainingError(RuntimeError):
    """A run that can't go on, or can't begin."""

    exit_status = 1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the bits of a training run."""

    corpus: str
    tokenisation: str
    """Words, bytes or bert."""
    stream_sha256: str
    """Of the training split's tokens."""
    model: ModelConfig
    scale: str
    train_length: int
    batch_tokens: int
    """Tokens in an optimiser step."""
    steps: int
    recipe: str
    """Optimiser, schedule and clipping, a name of `alibi.optim.RECIPES`."""
    learning_rate: float
    warmup_steps: int
    seed: int
    dtype: str
    """Of the computing; weights, softmax and loss stay float32."""
    device: str
    kernel: str
    threads: int
    torch_version: str
    tokens_at_once: int
    """Tokens in one pass forward and back; the gradients of several passes add up to a batch."""
    # A run that was stored before there was such a choice has the default.
    compiled: bool = False
    """Whether torch.compile translates the model."""
    activation_checkpointing: bool = False
    """Whether a layer is computed again in the backward pass instead of kept, for long training lengths."""
    official_tail_gap: bool = False
    """Whether the loss leaves out what the official training does: see `alibi.embedding.AdaptiveEmbedding`."""


def configure(
    method: str,
    corpus: Corpus,
    scale: str = "quick",
    train_length: int = 0,
    seed: int = 1,
    steps: int = 0,
    kernel: str = "automatic",
    tokens_at_once: int = 0,
    compiled: bool | None = None,
    activation_checkpointing: bool = False,
    official_tail_gap: bool = False,
    large: bool = False,
    decay_window: float = 0.0,
    device: str = "",
    dtype: str = "",
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
        tokens_at_once: tokens in one pass; 0 takes the scale's own number.
        compiled: use torch.compile; None does on a GPU.
        activation_checkpointing: compute layers again in the backward pass, which takes a third more time and a
            fraction of the memory.
        official_tail_gap: leave out of the loss what the official training leaves out.
        large: take the scale's larger model, which stands for the paper's 1.3B parameters.
        decay_window: how far heads see, in nats of a linear bias (see `alibi.decay_window`); 0 sets no limit.
        device: cpu or cuda; empty takes the scale's own.
        dtype: of the computing, bfloat16 or float32; empty takes what the device multiplies natively.

    Raises:
        ValueError: for an unknown method, scale, kernel, device or dtype, or a number out of range; known names are
            listed. A decay window is refused if negative, or with a method that has no linear bias.
    """
    if method not in METHODS:
        raise ValueError(f"no position method is named {method!r}; known are {', '.join(METHODS)}")
    chosen = scale_named(scale)
    device = device or chosen.device
    _refuse_unknown("device", device, DEVICES)
    dtype = dtype or compute_dtype(device)
    _refuse_unknown("dtype", dtype, DTYPES)
    train_length, steps = train_length or chosen.train_length, steps or chosen.steps
    tokens_at_once = max(train_length, min(tokens_at_once or chosen.tokens_at_once, chosen.batch_tokens))
    if not 1 <= train_length <= chosen.batch_tokens:
        raise ValueError(f"train_length={train_length}: choose 1 to {chosen.batch_tokens}, a batch at scale {scale}")
    if steps < 1 or not 0 <= seed < 2**64:
        raise ValueError(f"steps={steps}, seed={seed}: a run takes at least one step, and a seed is 0 to 2**64 - 1")
    choose_kernel(device, train_length, True, NoBias(), kernel)
    size, longest = corpus.vocabulary_size, train_length if METHODS[method].limited else 0
    model = replace(chosen.large if large else chosen.model, method=method, vocabulary_size=size, longest=longest)
    if decay_window:
        position_method(method, model.width, model.heads, longest).bias().within(decay_window)
        model = replace(model, decay_window=decay_window)
    if model.cutoffs and model.cutoffs[-1] >= size:
        # As the paper does for BookCorpus: a small vocabulary has no rare words to save on (p. 20).
        model = replace(model, cutoffs=())
    return TrainConfig(
        corpus=corpus.name,
        tokenisation=corpus.tokenisation,
        stream_sha256=corpus.split("train").sha256,
        model=model,
        scale=scale,
        train_length=train_length,
        batch_tokens=chosen.batch_tokens,
        steps=steps,
        recipe=chosen.recipe,
        learning_rate=chosen.learning_rate,
        warmup_steps=min(chosen.warmup_steps, steps),
        seed=seed,
        official_tail_gap=official_tail_gap,
        dtype=dtype,
        device=device,
        kernel=kernel,
        threads=chosen.threads or torch.get_num_threads(),
        torch_version=torch.__version__,
        tokens_at_once=tokens_at_once,
        compiled=device == "cuda" if compiled is None else compiled,
        activation_checkpointing=activation_checkpointing,
    )


def require_device(config: TrainConfig) -> None:
    """Refuses to train on a device that is not there.

    Raises:
        TrainingError: which names what trains here.
    """
    if not is_here(config.device):
        raise TrainingError(
            f"scale {config.scale} on device {config.device} needs a CUDA GPU and torch sees none: --device cpu trains "
            "on the CPU, which the scales quick and laptop are made for"
        )


def evaluation_device(config: TrainConfig, asked: str, folder: Path) -> str:
    """Where a trained model computes: as asked, else as it was trained, else on the CPU, which stderr is told.

    Args:
        config: of the run.
        asked: cpu or cuda; empty where nobody asks.
        folder: of the run, for the message.

    Raises:
        ValueError: if the device that is asked for is unknown; the known are listed.
        TrainingError: if it is not there.
    """
    if asked:
        _refuse_unknown("device", asked, DEVICES)
        if not is_here(asked):
            raise TrainingError(
                f"device {asked} is asked for, and torch sees no CUDA GPU: leave it out, or ask for cpu"
            )
        return asked
    if is_here(config.device):
        return config.device
    say(f"{folder} was trained on {config.device}, which is not here: computing on the CPU")
    return "cpu"


def _refuse_unknown(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; choose from {', '.join(known)}")


def differences(stored: TrainConfig, asked: TrainConfig) -> tuple[list[str], list[str]]:
    """What differs in what is learned, and what in the machine (`MACHINE`): "seed is 1, asked for 2" each."""
    first, second = asdict(stored), asdict(asked)
    first |= {f"model.{name}": value for name, value in first.pop("model").items()}
    second |= {f"model.{name}": value for name, value in second.pop("model").items()}
    differing = [name for name in first if first[name] != second[name]]
    told = {name: f"{name} is {first[name]}, asked for {second[name]}" for name in differing}
    learned = [told[name] for name in differing if name not in MACHINE]
    return learned, [told[name] for name in differing if name in MACHINE]


def read_config(folder: Path) -> TrainConfig:
    """The configuration of the finished run in this folder.

    Raises:
        TrainingError: if the folder holds no finished run, or its configuration is cut or of a version that has other
            fields; file and field are named.
    """
    return read_run(folder)[0]


def read_run(folder: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration of the finished run in this folder, and what is known of its training (see `alibi.train`).

    Raises:
        TrainingError: as `read_config`.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise TrainingError(f"{folder} holds no finished run: {CONFIG} is missing; train one with --out {folder}")
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError) as wrong:
        raise TrainingError(f"{path} can't be read: {wrong}; restore it, or remove it and train again") from wrong
    if not isinstance(stored, dict) or not isinstance(stored.get("run"), dict):
        raise TrainingError(
            f"{path} lacks the field run, the facts of the training; restore it, or remove it and train again"
        )
    return config_from({name: value for name, value in stored.items() if name != "run"}, path), stored["run"]


def config_from(stored: dict[str, Any], path: Path = Path(CONFIG)) -> TrainConfig:
    """The configuration that was stored as these fields; those that came later have their defaults, which is told.

    Args:
        stored: from JSON.
        path: where they were read, for the message.

    Raises:
        TrainingError: if a field is unknown, of another type, or missing and without a default.
    """
    config = _checked(TrainConfig, stored, path, "")
    if config["threads"] < 1:
        raise TrainingError(f"{path}: threads is {config['threads']}, and should be at least 1: it was edited")
    return TrainConfig(**config | {"model": ModelConfig(**_checked(ModelConfig, config["model"], path, "model."))})


_JSON = {bool: "true or false", int: "an integer", float: "a number", str: "a string", ModelConfig: "an object"}


def _checked(
    kind: type[TrainConfig] | type[ModelConfig], stored: dict[str, Any], path: Path, of: str
) -> dict[str, Any]:
    types, version = get_type_hints(kind), "it was written by another version of alibi, or edited"
    if unknown := [f"{of}{name}" for name in stored if name not in types]:
        raise TrainingError(f"{path} has unknown fields ({', '.join(unknown)}): {version}")
    absent = [field for field in fields(kind) if field.name not in stored]
    if missing := [f"{of}{field.name}" for field in absent if field.default is MISSING]:
        raise TrainingError(f"{path} lacks fields ({', '.join(missing)}): {version}")
    for field in absent:
        say(f"warning: {path} lacks {of}{field.name}: taken as {field.default}")
    for name, value in stored.items():
        if not _is_a(value, types[name]):
            right = _JSON.get(types[name], "a list of integers")
            raise TrainingError(f"{path}: {of}{name} is {json.dumps(value)[:80]}, and should be {right}; {version}")
    return stored


def _is_a(value: object, kind: Any) -> bool:
    if kind == tuple[int, ...]:
        return isinstance(value, list | tuple) and all(type(entry) is int for entry in value)
    if kind is ModelConfig:
        return isinstance(value, dict)
    # To Python truth values are integers.
    return isinstance(value, kind | int if kind is float else kind) and isinstance(value, bool) == (kind is bool)
