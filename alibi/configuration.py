"""The configuration of a training run: made from a request, stored beside the weights, read back and compared."""

import json
import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

import torch

from alibi import processes
from alibi.attention import causal_attention, choose_kernel
from alibi.corpora.corpus import Corpus, load, name_at
from alibi.corpora.stream import lanes_for
from alibi.device import DTYPES, THREADS, absence, check_device, compiles, compute_dtype, is_here
from alibi.errors import InputError, UnknownNameError, UserError, listed
from alibi.files import content_sha256
from alibi.model import ModelConfig
from alibi.optim import RECIPES
from alibi.positions import METHODS, Bias, NoBias, position_method
from alibi.progress import say, say_once
from alibi.run_spec import SEEDS, RunSpec
from alibi.scale import Scale, scale_named

# In the folder of a run: its configuration, written when it is finished, and what it goes on from until then.
CONFIG, CHECKPOINTS = "config.json", "checkpoints"
# SHA-256 among the facts of a finished run: of its weights, of its metrics, and of the rest of its `CONFIG`. Older runs
# lack some or all.
WEIGHTS_DIGEST, METRICS_DIGEST, CONFIG_DIGEST = "weights_sha256", "metrics_sha256", "config_sha256"
# Count this up when a change of the code moves the losses of runs by more than rounding: cached runs are then trained
# again. For a change that moves the runs of one position method alone, count up the method's `version`.
# tests/test_loss_trace.py fails when either is due.
RECIPE = 1
# These change only rounding, and with dropout the masks. A run may resume with different values; a warning names them.
MACHINE = (
    "device",
    "kernel",
    "threads",
    "torch_version",
    "tokens_at_once",
    "compiled",
    "activation_checkpointing",
    "processes",
    "parallel",
)
PARALLEL = ("ddp", "fsdp")


class TrainingError(UserError, RuntimeError):
    """A training run that can't begin or can't go on."""

    exit_status = 1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the bits of a training run."""

    corpus: str
    tokenisation: str
    """Words, bytes, bert or gpt2."""
    stream_sha256: str
    """SHA-256 of the training split's tokens, or of the names and sizes of a streamed text's files."""
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
    """Dtype of the computation; weights, softmax and loss stay float32."""
    device: str
    kernel: str
    threads: int
    torch_version: str
    tokens_at_once: int
    """Tokens in one forward and backward pass of a process; the gradients of several passes add up to a batch."""
    # These fields have defaults because configurations stored before they existed lack them.
    data_seed: int | None = None
    """Seed of the data order; None: the seed of the run."""
    compiled: bool = False
    """Whether torch.compile translates the model."""
    activation_checkpointing: bool = False
    """Whether a layer is computed again in the backward pass instead of kept, for long training lengths."""
    method_rate: float | None = None
    """Factor of the learning rate for the position method's own parameters under AdamW; None: `alibi.optim`'s rule."""
    processes: int = 1
    """Processes that share each batch (`alibi.processes`)."""
    parallel: str = "ddp"
    """Form in which they share the model: ddp or fsdp."""
    lanes: int = 0
    """Shares in which a streamed training text is read (`alibi.corpora.stream`); 0 if it is not streamed."""
    official_tail_gap: bool = False
    """Whether the loss has the official training's tail gap (see `alibi.embedding.AdaptiveEmbedding`)."""


def corpus_of(spec: RunSpec) -> Corpus:
    """The text that this run is trained on, cut to the part that its scale reads, see `alibi.corpora.corpus.load`.

    Raises:
        InputError: as `configure`, before the text is read; and for an unknown corpus or tokenisation.
        alibi.corpora.corpus.CorpusError: if it can't be read.
    """
    _checked_spec(spec)
    return load(name_at(scale_named(spec.scale), spec.corpus, spec.tokenisation), spec.tokenisation)


def configure(spec: RunSpec, corpus: Corpus) -> TrainConfig:
    """The complete configuration of a request; the scale, the corpus and the machine fill in the rest.

    Raises:
        InputError: for an unknown method, scale, kernel, device or dtype (the message lists the known ones), a number
            out of range or of another type, a decay window that is not positive or has no linear bias, a kernel that
            can't compute the method's bias, a rate for parameters that the method lacks or the scale's recipe can't
            give one, lanes of a text that is not streamed, or a batch or device that the processes can't share.
    """
    scale, device, train_length = _checked_spec(spec)
    steps = scale.steps if spec.steps is None else spec.steps
    tokens_at_once = scale.tokens_at_once if spec.tokens_at_once is None else spec.tokens_at_once
    return TrainConfig(
        corpus=corpus.name,
        tokenisation=corpus.tokenisation,
        stream_sha256=corpus.training_sha256,
        model=_model(spec, scale, train_length, corpus.vocabulary_size),
        scale=scale.name,
        train_length=train_length,
        batch_tokens=scale.batch_tokens,
        steps=steps,
        recipe=scale.recipe,
        learning_rate=float(scale.learning_rate if spec.learning_rate is None else spec.learning_rate),
        method_rate=None if spec.method_rate is None else float(spec.method_rate),
        warmup_steps=min(scale.warmup_steps, steps),
        seed=spec.seed,
        data_seed=spec.data_seed,
        processes=processes.count(),
        parallel=spec.parallel or "ddp",
        lanes=_lanes(spec.lanes, corpus, scale.batch_tokens // train_length),
        official_tail_gap=spec.official_tail_gap,
        dtype=compute_dtype(device) if spec.dtype is None else spec.dtype,
        device=device,
        kernel=spec.kernel,
        threads=scale.threads or THREADS,
        torch_version=torch.__version__,
        tokens_at_once=max(train_length, min(tokens_at_once, scale.batch_tokens)),
        compiled=compiles(device) if spec.compiled is None else spec.compiled,
        activation_checkpointing=spec.activation_checkpointing,
    )


def _checked_spec(spec: RunSpec) -> tuple[Scale, str, int]:
    """Scale, device and training length of a request, of which nothing is wrong that would be so for every corpus."""
    _check_types(spec)
    if spec.method not in METHODS:
        raise UnknownNameError("position method", spec.method, METHODS)
    scale = scale_named(spec.scale)
    device = scale.device if spec.device is None else spec.device
    check_device(device)
    if spec.dtype not in (None, *DTYPES):
        raise UnknownNameError("dtype", spec.dtype, DTYPES)
    train_length = scale.train_length if spec.train_length is None else spec.train_length
    if not 1 <= train_length <= scale.batch_tokens:
        raise InputError(
            f"train_length={train_length}: choose 1 to {scale.batch_tokens}, a batch at scale {scale.name}"
        )
    seeds = (spec.seed, spec.seed if spec.data_seed is None else spec.data_seed)
    if (spec.steps is not None and spec.steps < 1) or not all(0 <= seed < SEEDS for seed in seeds):
        raise InputError(
            f"steps={spec.steps}, seed={spec.seed}, data_seed={spec.data_seed}: choose at least one step, and seeds "
            "from 0 to 2**63 - 1"
        )
    if spec.tokens_at_once is not None and spec.tokens_at_once < train_length:
        raise InputError(
            f"tokens_at_once={spec.tokens_at_once}: a pass takes at least one block; choose {train_length} or more"
        )
    for name in ("learning_rate", "method_rate"):
        if (rate := getattr(spec, name)) is not None and not 0 < rate < math.inf:
            raise InputError(f"{name}={rate}: choose a number above 0")
    model = _model(spec, scale, train_length, vocabulary_size=0)  # Refuses a wrong decay window.
    if spec.method_rate is not None and scale.recipe == "paper":
        raise InputError(
            f"method_rate={spec.method_rate}: scale {scale.name} has the paper's recipe, with one rate; leave it out"
        )
    if spec.method_rate is not None and not list(
        position_method(model.method, model.width, model.heads, model.longest).parameters()
    ):
        raise InputError(f"method_rate={spec.method_rate}: {spec.method} has no parameters of its own; leave it out")
    choose_kernel(device, train_length, True, NoBias(), spec.kernel)
    if spec.kernel != "automatic":
        _check_kernel(spec.kernel, device, model)
    _check_processes(spec.parallel, device, scale.batch_tokens // train_length)
    return scale, device, train_length


def _check_types(given: RunSpec | TrainConfig | ModelConfig) -> None:
    """Refuses values of another type: they could not be read back from the folder of the finished run."""
    for name, kind in get_type_hints(type(given)).items():
        value = getattr(given, name)
        if isinstance(value, ModelConfig):
            _check_types(value)
        elif not _is_a(value, kind):
            right = " or ".join(_JSON[one] for one in _one_of(kind) if one is not NoneType)
            raise InputError(f"{name}={value!r}: choose {right}")


def check_config(config: TrainConfig) -> None:
    """Refuses what no run could train or its folder give back, as a configuration made by hand may ask for it.

    Raises:
        InputError: for an unknown name (the message lists the known ones), a value of another type or out of range, or
            blocks that the processes can't share evenly.
    """
    _check_types(config)
    scale_named(config.scale)
    check_device(config.device)
    for what, name, known in (
        ("position method", config.model.method, METHODS),
        ("dtype", config.dtype, DTYPES),
        ("recipe", config.recipe, RECIPES),
        ("parallel", config.parallel, PARALLEL),
    ):
        if name not in known:
            raise UnknownNameError(what, name, known)
    for name, least, most in (
        ("train_length", 1, config.batch_tokens),
        ("tokens_at_once", config.train_length, config.batch_tokens),
        ("steps", 1, math.inf),
        ("threads", 1, math.inf),
        ("warmup_steps", 0, math.inf),
        ("lanes", 0, math.inf),
        ("seed", 0, SEEDS - 1),
        ("data_seed", 0, SEEDS - 1),
    ):
        if (value := getattr(config, name)) is not None and not least <= value <= most:
            raise InputError(f"{name}={value}: choose {least} {'or more' if most == math.inf else f'to {most}'}")
    for name in ("learning_rate", "method_rate"):
        if (rate := getattr(config, name)) is not None and rate <= 0:
            raise InputError(f"{name}={rate}: choose a number above 0")
    check_dealt(config.batch_tokens // config.train_length, config.processes)


def _bias(model: ModelConfig) -> Bias:
    bias = position_method(model.method, model.width, model.heads, model.longest).bias()
    return bias if model.decay_window is None else bias.within(model.decay_window)


def _check_kernel(kernel: str, device: str, model: ModelConfig) -> None:
    """Refuses what a kernel refuses of a bias or of dropout, by a pass over one token without a gradient.

    A kernel that has no gradient here is not refused: a finished run may have been trained with it elsewhere.
    """
    at, q_BHTD = torch.arange(1), torch.zeros(1, model.heads, 1, model.width // model.heads)
    attend = causal_attention(_bias(model), at, at, kernel, model.attention_dropout)
    if device == "cpu":
        attend(q_BHTD, q_BHTD, q_BHTD)


def _lanes(asked: int | None, corpus: Corpus, blocks: int) -> int:
    if corpus.streamed:
        return lanes_for(blocks, processes.count(), asked)
    if asked is not None:
        raise InputError(f"lanes={asked}: {corpus.name} is not streamed; leave it out")
    return 0


def _check_processes(parallel: str | None, device: str, blocks: int) -> None:
    if parallel is not None and parallel not in PARALLEL:
        raise UnknownNameError("parallel", parallel, PARALLEL)
    if parallel is not None and not processes.launched():
        raise InputError(
            f"parallel={parallel} is for several processes: torchrun --nproc-per-node 2 -m alibi train ... starts them"
        )
    size = processes.count()
    if size > 1 and device == "mps":
        raise InputError("device mps: a Mac has one GPU, for one process; start it without torchrun")
    check_dealt(blocks, size)


def check_dealt(blocks: int, size: int) -> None:
    """Checks that a step's blocks can be dealt evenly to this number of processes.

    Raises:
        InputError: if not; the message lists the possible numbers of processes.
    """
    if size < 1 or blocks % size:
        fitting = [number for number in range(1, blocks + 1) if not blocks % number]
        raise InputError(
            f"{blocks} blocks of a step can't be dealt evenly to {size} processes; choose from {listed(fitting, 40)}"
        )


def _model(spec: RunSpec, scale: Scale, train_length: int, vocabulary_size: int) -> ModelConfig:
    model = replace(
        scale.large if spec.large else scale.model,
        method=spec.method,
        vocabulary_size=vocabulary_size,
        longest=train_length if METHODS[spec.method].needs_longest else 0,
        decay_window=None if spec.decay_window is None else float(spec.decay_window),
    )
    if spec.decay_window is not None:
        _bias(model)
    if model.cutoffs and model.cutoffs[-1] >= vocabulary_size:
        # As in the paper's BookCorpus models: in a small vocabulary no rare words need narrow vectors (p. 20).
        model = replace(model, cutoffs=())
    return model


def check_here(spec: RunSpec) -> None:
    """Refuses a run that can't be trained, or not on this machine, before its text is read.

    Raises:
        InputError: as `configure`.
        TrainingError: as `require_device`.
    """
    scale, device, _ = _checked_spec(spec)
    require_device(scale.name, device)


def require_device(scale: str, device: str) -> None:
    """Checks that torch can train a run of this scale on this device.

    Raises:
        TrainingError: if it can't; the message names a device that can.
    """
    if missing := absence(device):
        raise TrainingError(
            f"scale {scale} on device {device}: {missing}; --device cpu trains on the CPU, which the "
            "scales quick and laptop are made for (in a chapter -p scale=quick)"
        )


def evaluation_device(config: TrainConfig, asked: str | None, folder: Path) -> str:
    """The device for a trained model: the requested one, else the training's, else the CPU with a warning.

    Args:
        config: the run's configuration.
        asked: cpu, cuda or mps; None if no device was requested.
        folder: the run's folder, for the warning.

    Raises:
        InputError: for an unknown device; the message lists the known ones.
        TrainingError: if torch does not see the requested device.
    """
    if asked is not None:
        check_device(asked)
        if missing := absence(asked):
            raise TrainingError(f"device {asked} can't be used: {missing}; leave it out, or choose cpu")
        return asked
    if is_here(config.device):
        return config.device
    say(f"{folder} was trained on {config.device}, which is not here: computing on the CPU")
    return "cpu"


def differences(stored: TrainConfig, asked: TrainConfig) -> tuple[list[str], list[str]]:
    """Fields that differ, such as "seed is 1, asked for 2": those that change the learning, and those of `MACHINE`."""
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
        TrainingError: if the folder holds no finished run, or its configuration is damaged, edited or has the fields of
            another version; the message names file and field.
    """
    return read_run(folder)[0]


def read_run(folder: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration of the finished run in this folder, and the facts of its training (see `alibi.train`).

    Raises:
        TrainingError: as in `read_config`.
    """
    path = folder / CONFIG
    if not path.is_file() and (folder / CHECKPOINTS).is_dir():
        raise TrainingError(f"{folder} holds a run that is not finished: the command that began it goes on")
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
    run = stored["run"]
    right = run_sha256(stored) if {WEIGHTS_DIGEST, CONFIG_DIGEST} & run.keys() else None
    config = config_from({name: value for name, value in stored.items() if name != "run"}, path)
    if run.get(CONFIG_DIGEST) != right:
        raise TrainingError(f"{path} is not as it was written: restore it, or remove it and train again")
    return config, run


def run_sha256(stored: dict[str, Any]) -> str:
    """SHA-256 of a finished run's `CONFIG`, stored among the facts of its training."""
    facts = {name: value for name, value in stored["run"].items() if name != CONFIG_DIGEST}
    return content_sha256(stored | {"run": facts})


def config_from(stored: dict[str, Any], path: Path = Path(CONFIG)) -> TrainConfig:
    """The configuration from stored fields; a missing newer field gets its default, and one warning names all of these.

    Args:
        stored: fields from JSON.
        path: file of the fields, for messages.

    Raises:
        TrainingError: if a field is unknown, has another type, or is missing without a default.
    """
    config, later = _checked_fields(TrainConfig, stored, path, "")
    if config["threads"] < 1:
        raise TrainingError(f"{path}: threads is {config['threads']}, and should be at least 1: it was edited")
    model, later_of_model = _checked_fields(ModelConfig, config["model"], path, "model.")
    if missing := later | later_of_model:
        taken = ", ".join(f"{name}: {default}" for name, default in missing.items())
        say_once(f"warning: {path} is of an earlier version; fields that it lacks have their defaults: {taken}")
    # Older versions stored 0 for no limit.
    model["decay_window"] = model.get("decay_window") or None
    return TrainConfig(**config | {"model": ModelConfig(**model)})


_JSON = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "a string",
    tuple[int, ...]: "a list of integers",
    ModelConfig: "an object",
    NoneType: "null",
}


def _one_of(kind: Any) -> tuple[Any, ...]:
    """The types that a field may have: those of a union, or the type itself."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _checked_fields(
    kind: type[TrainConfig] | type[ModelConfig], stored: dict[str, Any], path: Path, of: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stored fields, and the defaults of the missing ones."""
    types, version = get_type_hints(kind), "it was written by another version of alibi, or edited"
    if unknown := [f"{of}{name}" for name in stored if name not in types]:
        raise TrainingError(f"{path} has unknown fields ({', '.join(unknown)}): {version}")
    absent = [field for field in fields(kind) if field.name not in stored]
    if missing := [f"{of}{field.name}" for field in absent if field.default is MISSING]:
        raise TrainingError(f"{path} lacks fields ({', '.join(missing)}): {version}")
    for name, value in stored.items():
        if not _is_a(value, types[name]):
            right = " or ".join(_JSON[one] for one in _one_of(types[name]))
            raise TrainingError(f"{path}: {of}{name} is {json.dumps(value)[:80]}, and should be {right}; {version}")
    return stored, {f"{of}{field.name}": field.default for field in absent}


def _is_a(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is_a(value, one) for one in get_args(kind))
    if kind == tuple[int, ...]:
        return isinstance(value, list | tuple) and all(type(entry) is int for entry in value)
    if kind is ModelConfig:
        return isinstance(value, dict)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    # In Python True and False are integers.
    return isinstance(value, kind | int if kind is float else kind) and isinstance(value, bool) == (kind is bool)
