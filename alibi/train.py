"""The training loop: one configuration and a token stream in, weights, configuration and metrics out.

A run may end at any moment, by a signal, a crash or a full disk. The same call then goes on from its last checkpoint
and ends in the same bits as a run without a stop (same machine, torch version, threads, kernel and processes).

Several processes (`alibi.processes`) share the blocks of each batch, in the order of a single process: loss, gradient
and weights are the same up to rounding, and a checkpoint fits any number of processes; of a streamed text, any number
that divides its lanes. With dropout each process draws its own masks, so that runs with other numbers of processes
agree only in distribution.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from filelock import Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alibi import checkpoint as checkpoints
from alibi import processes
from alibi.attention import choose_kernel
from alibi.checkpoint import Checkpoint
from alibi.configuration import (
    CHECKPOINTS,
    CONFIG,
    CONFIG_DIGEST,
    METRICS_DIGEST,
    WEIGHTS_DIGEST,
    TrainConfig,
    TrainingError,
    check_config,
    config_from,
    differences,
    read_config,
    require_device,
    run_sha256,
)
from alibi.corpora.corpus import Corpus
from alibi.corpora.stream import TokenStream
from alibi.device import (
    computing,
    give_back_memory,
    matmul_rate,
    of_its_own,
    peak_memory,
    placed,
    random_state,
    set_random_state,
    settle_cpu,
)
from alibi.errors import InputError, listed
from alibi.evaluate import EvaluationError, evaluate
from alibi.files import locked, sha256, write_whole
from alibi.interruption import TRY_AGAIN, noted
from alibi.model import Decoder
from alibi.optim import RECIPES
from alibi.progress import bar as progress_bar
from alibi.progress import say
from alibi.provenance import provenance
from alibi.run_spec import BOOKKEEPING, Bookkeeping
from alibi.weights import WEIGHTS, check_weights
from alibi.windows import TrainingOrder

METRICS_FILE, LOCK = "metrics.jsonl", ".lock"
ROW_BEGINS = b'{"step": '
VALIDATION_TOKENS = 8192
GIVE_BACK_EVERY = 64
GOES_ON = "the same command goes on from there"


class StoppedError(TrainingError):
    """A signal ended the run after a step, with a checkpoint: the same call goes on."""

    exit_status = TRY_AGAIN


def train(
    config: TrainConfig,
    corpus: Corpus,
    folder: Path,
    bookkeeping: Bookkeeping = BOOKKEEPING,
    *,
    exact_dtype: bool = False,
) -> None:
    """Trains a model and writes its weights, configuration and metrics into the folder.

    The loss of a step is the mean negative log-likelihood of its tokens, in nats. A finished run of this configuration
    stays as it is. An unfinished one resumes, in the dtype in which it began (another machine may choose another).

    Every process of a group calls this; only the first reads and writes the folder.

    Args:
        config: configuration of the run.
        corpus: its training split is the text, and its validation split is for the metrics.
        folder: output folder, made if missing.
        bookkeeping: checkpoints, validation, metrics and progress bar.
        exact_dtype: refuse to resume a run that began in another dtype.

    Raises:
        TrainingError: if the folder holds a run of another configuration (the message names the fields), can't be
            written or is in use by another process; if the device is missing, the corpus or the number of processes is
            not the configured one, or the loss or gradient is not finite or the validation loss not a number.
        StoppedError: after SIGTERM, SIGHUP or SIGINT, when the step is finished and its checkpoint saved.
        KeyboardInterrupt: at the second SIGINT, at once.
        alibi.checkpoint.CheckpointError: if a checkpoint can't be written, or all checkpoints are damaged.
        InputError: if the corpus does not fill a batch or holds an id outside the vocabulary, a number of the
            bookkeeping is below 1, or no run can have this configuration (see `alibi.configuration.check_config`).
    """
    check_config(config)
    bookkeeping.check()
    first = processes.rank() == 0
    if config.processes != processes.count():
        raise TrainingError(f"the run is configured for {config.processes} processes, and here are {processes.count()}")
    if processes.from_first(first and _finished(config, folder, exact_dtype)):
        if first:
            checkpoints.remove(folder / CHECKPOINTS)  # An earlier process may have ended before it removed them.
        return
    _check_stream(config, corpus)
    require_device(config.scale, config.device)
    _check_name(folder)
    try:
        with ExitStack() as holding:
            if first:
                folder.mkdir(parents=True, exist_ok=True)
                holding.enter_context(locked(folder / LOCK, timeout=0))
            received = holding.enter_context(noted())
            if not processes.from_first(first and _finished(config, folder, exact_dtype)):
                holding.enter_context(of_its_own(config.device))
                _train(config, corpus, folder, bookkeeping, exact_dtype, received)
            if name := _signal(received):
                raise StoppedError(f"{name}: the training is done and saved in {folder}; {GOES_ON}")
    except Timeout as busy:
        raise TrainingError(
            f"another process trains in {folder} and holds {busy.lock_file}: wait for it, or choose another folder"
        ) from None
    except (OSError, SafetensorError) as wrong:
        raise TrainingError(f"{folder} can't be written: {wrong}; the saved part of the run is whole") from wrong


def _check_name(folder: Path) -> None:
    try:
        str(folder).encode()
    except UnicodeEncodeError as wrong:
        # The files of weights would be written there, and never read.
        raise TrainingError(f"{str(folder)!r} is not UTF-8, which weights need; choose another folder") from wrong


def _finished(config: TrainConfig, folder: Path, exact_dtype: bool) -> bool:
    """Whether the folder holds this run and it is finished; raises TrainingError for another run."""
    if not (folder / CONFIG).is_file():
        return False
    _same_run(read_config(folder), config, folder, exact_dtype)
    return True


def _signal(received: list[signal.Signals]) -> str:
    """The name of a signal that some process has received, empty if none has."""
    number = processes.highest(received[0] if received else 0)
    return signal.Signals(number).name if number else ""


def _check_stream(config: TrainConfig, corpus: Corpus) -> None:
    if corpus.training_sha256 != config.stream_sha256:
        raise TrainingError(
            f"corpus {corpus.name} has training stream {corpus.training_sha256}, not {config.stream_sha256}"
        )
    if corpus.streamed:
        return
    split = corpus.splits["train"]
    if not len(split.tokens):
        raise InputError(f"the training split of corpus {corpus.name} is empty")
    if (largest := int(split.tokens.max())) >= config.model.vocabulary_size:
        raise InputError(f"token id {largest} does not fit a vocabulary of {config.model.vocabulary_size} entries")


def _same_run(stored: TrainConfig, asked: TrainConfig, folder: Path, exact_dtype: bool) -> TrainConfig:
    """The requested configuration, in the stored dtype; raises TrainingError if the stored run is another one."""
    kept = asked if exact_dtype else replace(asked, dtype=stored.dtype)
    learned, machine = differences(stored, kept)
    if learned:
        raise TrainingError(f"{folder} holds another run ({'; '.join(learned)}): choose another folder")
    if machine:
        model = kept.model
        drops = any((model.dropout, model.attention_dropout, model.activation_dropout, model.softmax_dropout))
        differ = "with dropout other masks may be drawn" if drops else "the last bits of the run may differ"
        say(f"warning: {folder}: {'; '.join(machine)}; {differ}")
    if kept.dtype != asked.dtype:
        say(
            f"warning: {folder}: the run began in {kept.dtype} and keeps it; this machine would choose {asked.dtype}, "
            f"so training in {kept.dtype} may be slow here"
        )
    return kept


class _Losses(nn.Module):
    """The loss of each token as a module's forward pass, because torch's DDP wraps a module."""

    def __init__(self, model: Decoder, losses: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, *given: Any, **named: Any) -> Tensor:
        return self.losses(*given, **named)


class Training:
    """The state of a run: model, optimiser, schedule, and the number of steps done.

    Each process has its share of a batch's blocks, and torch averages the gradients: with DDP after the last pass of a
    step, with FSDP after each pass, so that no process ever holds all gradients.
    """

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        self.config, self.done, self.seconds = config, 0, 0.0
        # Metrics have a row of each multiple of it, for all values of `Bookkeeping.log_every` that the run has had.
        self.log_every = 1
        torch.manual_seed(config.seed)
        made = Decoder(config.model, config.kernel, config.activation_checkpointing)
        self.model = placed(made, config.device).train()
        if processes.launched() and config.parallel == "fsdp":
            processes.shard(self.model, self.model.layers, config.device)
        self.losses: Callable[..., Tensor] = self.model.negative_log_likelihood
        if config.compiled:
            try:
                # Not the whole model: one compilation serves all layers, while the bands of an adaptive softmax change
                # size at each step and would be compiled again and again.
                for layer in self.model.layers:
                    layer.compile()
            except (RuntimeError, OSError) as wrong:  # No compiler for this system or Python, or no room for its cache.
                raise self._not_compiled(wrong) from wrong
        if processes.count() > 1 and config.parallel == "ddp":
            self.losses = DistributedDataParallel(_Losses(self.model, self.losses), gradient_as_bucket_view=True)
        recipe = RECIPES[config.recipe](
            self.model, config.learning_rate, config.warmup_steps, config.steps, config.method_rate
        )
        self.optimizer, self.schedule, self.clip = recipe
        self.order = _order(config, corpus)
        self.tokens_a_step = config.batch_tokens // config.train_length * config.train_length
        self._draw_apart()

    def _draw_apart(self) -> None:
        """Gives each process except the first its own random numbers, for dropout."""
        if number := processes.rank():
            mixed = np.random.SeedSequence([self.config.seed, number, self.done])
            torch.manual_seed(int(mixed.generate_state(1, np.uint64)[0]))

    def step(self) -> tuple[float, float]:
        """Makes one optimiser step; returns the loss in nats a token and the gradient's norm before clipping."""
        config, blocks_at_once = self.config, self.config.tokens_at_once // self.config.train_length
        sources_BT, targets_BT = self.order(self.done)
        loss = torch.zeros((), device=config.device)
        parts = list(zip(sources_BT.split(blocks_at_once), targets_BT.split(blocks_at_once), strict=True))
        for number, (sources, targets) in enumerate(parts, 1):
            given = sources.to(config.device), targets.to(config.device)
            with self._compiling(), self._averaging(number == len(parts)):
                with computing(config.device, config.dtype):
                    nats = self.losses(*given, official_tail_gap=config.official_tail_gap).sum()
                    part = nats / sources_BT.numel()
                part.backward()
            loss += part.detach()
        loss = processes.total(loss) / config.processes
        norm = processes.replicated(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip))
        # One transfer for both, because each transfer makes a GPU wait.
        mean, gradient_norm = torch.stack([loss, norm]).tolist()
        if not math.isfinite(mean) or not math.isfinite(gradient_norm):
            raise TrainingError(
                f"step {self.done}: loss {mean}, gradient norm {gradient_norm}. It is {self.order.described(self.done)}"
                f". A smaller learning rate than {config.learning_rate} may help"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.done += 1
        return mean, gradient_norm

    def _averaging(self, last: bool) -> AbstractContextManager[None]:
        """The context of a pass; with DDP the processes' gradients are averaged in a step's last pass."""
        if last or not isinstance(self.losses, DistributedDataParallel):
            return nullcontext()
        delayed: AbstractContextManager[None] = self.losses.no_sync()
        return delayed

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """Adds a remedy to a compiler's error; the first pass raises it, before any weight has changed."""
        try:
            yield
        except (RuntimeError, OSError) as wrong:
            from torch._dynamo.exc import TorchDynamoException

            # In a pass only the compiler and its cache use files.
            if not isinstance(wrong, TorchDynamoException | OSError):
                raise
            raise self._not_compiled(wrong) from wrong

    def _not_compiled(self, wrong: RuntimeError | OSError) -> TrainingError:
        told = next(iter(str(wrong).splitlines()), type(wrong).__name__)
        remedy = "--compiled False" if self.config.compiled else "--kernel sdpa"
        return TrainingError(f"the model can't be compiled here: {told}; {remedy} trains without a compiler")

    def checkpoint(self) -> Checkpoint:
        """The complete state of the run; only the first process gets its tensors."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for number, state in optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        whole = _whole(tensors)
        for number, states in enumerate(processes.from_all(self._random_states())):
            whole |= {f"random.{device}{f'.{number}' if number else ''}": state for device, state in states.items()}
        facts = {
            "config": asdict(self.config),
            "tokens": self.done * self.tokens_a_step,
            "positions": processes.from_all(self.order.position(self.done)),
            "seconds": self.seconds,
            "log_every": self.log_every,
            "groups": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        return Checkpoint(self.done, whole, facts)

    def weights(self) -> dict[str, Tensor]:
        """The weights by name; only the first process gets them."""
        return _whole(self.model.state_dict())

    def _random_states(self) -> dict[str, Tensor]:
        state = random_state(self.config.device)
        return {"cpu": torch.get_rng_state()} | ({} if state is None else {self.config.device: state})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint; with the same number of processes, to the same bits as the run that saved it.

        Args:
            checkpoint: a state; only the first process reads its tensors.

        Raises:
            TrainingError: if the checkpoint's weights or optimiser state do not fit this model.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "random": {}}
        for name, value in checkpoint.tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = value
        if not processes.rank():
            check_weights(self.model, parts["model"], f"the checkpoint of step {checkpoint.step}")
        for name, value in self.model.state_dict().items():
            processes.fill(value, parts["model"].get(name))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        shapes = processes.from_first({name: value.shape for name, value in parts["optimizer"].items()})
        for name, shape in shapes.items():
            number, _, key = name.partition(".")
            like = parameters[int(number)] if int(number) < len(parameters) else torch.zeros(())
            held = torch.zeros_like(like) if like.shape == shape else torch.zeros(shape)
            processes.fill(held, parts["optimizer"].get(name))
            state.setdefault(int(number), {})[key] = held
        try:
            self.optimizer.load_state_dict({"state": state, "param_groups": checkpoint.facts["groups"]})
        except ValueError as wrong:
            raise TrainingError(
                f"another version of alibi wrote the checkpoint of step {checkpoint.step}: {wrong}; train into another "
                "folder"
            ) from wrong
        self.schedule.load_state_dict(checkpoint.facts["schedule"])
        self.done, self.seconds = checkpoint.step, checkpoint.facts["seconds"]
        self.log_every = checkpoint.facts.get("log_every", 1)
        self.order.resume(checkpoint.facts.get("positions", []))
        self._draw_apart()
        own = f".{processes.rank()}" if processes.rank() else ""
        states = processes.from_first(parts["random"])
        if f"cpu{own}" in states:
            torch.set_rng_state(states[f"cpu{own}"])
        if f"{self.config.device}{own}" in states and self.config.device != "cpu":
            set_random_state(self.config.device, states[f"{self.config.device}{own}"])


def _order(config: TrainConfig, corpus: Corpus) -> TrainingOrder | TokenStream:
    """The steps' blocks for this process, from a stored or a streamed text."""
    length, batch = config.train_length, config.batch_tokens // config.train_length
    seed = config.seed if config.data_seed is None else config.data_seed
    process, of = processes.rank(), config.processes
    if corpus.streamed:
        return TokenStream(corpus.name, corpus.vocabulary, length, batch, seed, process, of, config.lanes)
    return TrainingOrder(corpus.splits["train"].tokens, corpus.end_of_line, length, batch, seed, process, of)


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    whole = {name: processes.whole(value.detach()) for name, value in tensors.items()}
    return {name: value.contiguous() for name, value in whole.items() if value is not None}


def _train(
    config: TrainConfig,
    corpus: Corpus,
    folder: Path,
    bookkeeping: Bookkeeping,
    exact_dtype: bool,
    received: list[signal.Signals],
) -> None:
    settle_cpu(config.threads)
    first = processes.rank() == 0
    if first:
        _rows(folder / METRICS_FILE)  # Refuses a file that is not ours.
    found = checkpoints.newest(folder / CHECKPOINTS) if first else None
    if stored := processes.from_first(None if found is None else (found.step, found.facts)):
        step, facts = stored
        found = found or Checkpoint(step, {}, facts)
        facts_path = folder / CHECKPOINTS / f"{step:09}" / checkpoints.FACTS
        config = _same_run(config_from(facts["config"], facts_path), config, folder, exact_dtype)
    ceiling = matmul_rate(config.device, config.dtype)
    training = Training(config, corpus)
    if found is not None:
        training.restore(found)
    bias, dropout = training.model.bias(), config.model.attention_dropout
    kernel = choose_kernel(config.device, config.train_length, True, bias, config.kernel, dropout)
    tokens = None if corpus.streamed else corpus.splits["train"].tokens
    flops = training.model.training_flops(config.train_length, tokens)
    _tell_beginning(training, kernel, flops)
    _loop(training, corpus, folder, bookkeeping, received)
    rate = config.steps * training.tokens_a_step / max(training.seconds, 1e-9)
    if rate * flops > ceiling * config.processes:
        # Something else ran while it was measured.
        ceiling = max(ceiling, matmul_rate(config.device, config.dtype, again=True))
    weights = training.weights()
    ceiling *= config.processes
    facts = provenance(config.device) | {
        "parameters": training.model.parameter_count(),
        "attention_kernel": kernel,
        "tokens": config.steps * training.tokens_a_step,
        "seconds": round(training.seconds, 1),
        "tokens_per_second": round(rate, 1),
        "flops_per_token": flops,
        "matmul_flops_per_second": round(ceiling),
        "share_of_matmul_rate": round(rate * flops / ceiling, 4),
        "peak_memory_mib": round(peak_memory(config.device) / 2**20),
    }
    say(
        f"{config.model.method}: {rate:,.0f} tokens/s, {facts['share_of_matmul_rate']:.0%} of the measured rate of "
        f"matrix products, peak memory {facts['peak_memory_mib']:,} MiB"
    )
    if first:
        write_whole(folder / WEIGHTS, lambda path: save_file(weights, path), alone=True)
        digests = {WEIGHTS_DIGEST: sha256(folder / WEIGHTS), METRICS_DIGEST: sha256(folder / METRICS_FILE)}
        finished = asdict(config) | {"run": facts | digests}
        finished["run"][CONFIG_DIGEST] = run_sha256(finished)
        text = json.dumps(finished, indent=2) + "\n"
        write_whole(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"), alone=True)
        checkpoints.remove(folder / CHECKPOINTS)
    processes.wait()


def _tell_beginning(training: Training, kernel: str, flops: float) -> None:
    config = training.config
    going_on = f"; going on from step {training.done}" if training.done else ""
    say(
        f"{config.model.method}: {training.model.parameter_count():,} parameters, {flops / 1e6:,.1f} MFLOP a token, "
        f"attention kernel {kernel}, {config.steps:,} steps of {training.tokens_a_step:,} tokens{going_on}"
    )


def _loop(
    training: Training, corpus: Corpus, folder: Path, bookkeeping: Bookkeeping, received: list[signal.Signals]
) -> None:
    config, before = training.config, training.seconds
    training.log_every = math.lcm(training.log_every, bookkeeping.log_every)
    save_every = bookkeeping.checkpoint_every or min(1000, math.ceil(config.steps / 20))
    validate_every = bookkeeping.validate_every or math.ceil(config.steps / 5)
    bar = progress_bar(
        total=config.steps * training.tokens_a_step,
        initial=training.done * training.tokens_a_step,
        unit=" tokens",
        unit_scale=True,
        desc=f"{config.model.method:10}",
        position=bookkeeping.bar_row,
        mininterval=0.5,
    )
    with bar, _metrics(folder, training.done, training.log_every, bookkeeping.tensorboard) as write:
        started = time.perf_counter()
        while training.done < config.steps:
            learning_rate = training.schedule.get_last_lr()[0]
            nats, gradient_norm = training.step()
            step, last = training.done - 1, training.done == config.steps
            training.seconds = before + time.perf_counter() - started
            row: dict[str, Any] = {"step": step, "tokens": training.done * training.tokens_a_step}
            validated = "valid" in corpus.splits and (training.done % validate_every == 0 or last)
            if step % bookkeeping.log_every == 0 or validated or last:
                bar.set_postfix(loss=f"{nats:.3f}", refresh=False)
                row |= {"loss": nats, "gradient_norm": gradient_norm, "learning_rate": learning_rate}
                row["tokens_per_second"] = round(row["tokens"] / training.seconds, 1)
                try:
                    if validated:
                        row["validation_perplexity"] = _validate(training, corpus)
                finally:  # A model without a validation loss has a row too.
                    write(row)
            bar.update(training.tokens_a_step)
            stopping = "" if last else _signal(received)
            if not last and (training.done % save_every == 0 or stopping):
                saved = training.checkpoint()
                if processes.rank() == 0:
                    checkpoints.save(folder / CHECKPOINTS, saved, bookkeeping.keep)
                # The other processes wait here for the first, and a signal may have come meanwhile.
                stopping = _signal(received)
            if training.done % GIVE_BACK_EVERY == 0:
                give_back_memory()
            if stopping:
                raise StoppedError(
                    f"{stopping}: stopped after step {training.done} of {config.steps}, checkpoint saved in "
                    f"{folder}; {GOES_ON}"
                )


def _validate(training: Training, corpus: Corpus) -> float:
    split, length = corpus.splits["valid"], training.config.train_length
    try:
        with torch.compiler.set_stance("force_eager"):  # Compiling the layers for these shapes would take longer.
            found = evaluate(training.model, split, corpus.end_of_line, length, prefix=VALIDATION_TOKENS)
    except EvaluationError as wrong:
        raise TrainingError(
            f"the model of step {training.done - 1} has no validation loss: {wrong}. A smaller learning rate than "
            f"{training.config.learning_rate} may help"
        ) from wrong
    training.model.train()
    return found.perplexity


@contextmanager
def _metrics(folder: Path, done: int, log_every: int, tensorboard: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Appends rows from step `done` on to metrics.jsonl and, if asked, TensorBoard's files; in the first process."""
    if processes.rank():
        yield lambda row: None
        return
    path = folder / METRICS_FILE
    rows, broken = _rows(path)
    rows = [row for row in rows if row["step"] < done]
    if broken and done:
        say(f"warning: {path}: lines {listed(broken)} are no rows and are left out")
    if missing := sorted({*range(0, done, log_every)} - {row["step"] for row in rows}):
        say(f"warning: {path} has no rows of steps {listed(missing)}, before step {done} from which the run goes on")
    kept = [json.dumps(row) + "\n" for row in rows]
    write_whole(path, lambda part: part.write_text("".join(kept), encoding="utf-8"), alone=True)
    board = _tensorboard(folder, done) if tensorboard else None
    file: TextIO
    with path.open("a", encoding="utf-8") as file:

        def write(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            if board is not None:
                for name in row.keys() - {"step"}:
                    board.add_scalar(name, row[name], row["step"])

        try:
            yield write
        finally:
            if board is not None:
                board.close()


def _rows(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows of the metrics, and the numbers of lines that are no rows; half a row at the end is left out.

    Raises:
        TrainingError: if the file holds something else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], []
    rows, broken = [], []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int) and "tokens" in row:
            rows.append(row)
        else:
            broken.append(number)
    # A killed process leaves half a row.
    begun = len(lines) == 1 and b"}" not in lines[0] and lines[0][: len(ROW_BEGINS)] == ROW_BEGINS[: len(lines[0])]
    if broken and not rows and not begun:
        raise TrainingError(
            f"{path} holds another file, not the metrics of a run: move it away, or choose another folder"
        )
    return rows, [number for number in broken if number < len(lines)]


def _tensorboard(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as missing:
        raise TrainingError("TensorBoard is not installed: pip install alibi-book[tensorboard]") from missing
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done)
