"""A training run of a fraction of a second, with every kind of dropout; as a script, a process that can be killed."""

import hashlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from alibi import checkpoint, processes
from alibi.configuration import configure
from alibi.corpora.corpus import Corpus, Split
from alibi.device import settle_cpu
from alibi.run_spec import Bookkeeping, RunSpec
from alibi.train import Training, train

DROPOUTS = {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "softmax_dropout": 0.2}


def period_corpus(tokens=40_000):
    """A stream that repeats with period 9, which any model learns in a few steps."""
    stream = np.resize(np.arange(9, dtype=np.uint16), tokens)
    digest = hashlib.sha256(stream).hexdigest()
    splits = {name: Split(name, stream, tokens // 2, 3 * tokens, 1, digest) for name in ("train", "valid")}
    return Corpus("period", "counts to nine", "none", "none", "none", "words", 16, 0, splits, Path("nowhere"))


def small(config, **changes):
    shape = replace(config.model, layers=2, width=32, heads=4, feedforward=64, cutoffs=(4, 8), **DROPOUTS)
    smaller = {"model": shape, "batch_tokens": 512, "tokens_at_once": 512, "warmup_steps": 2}
    return replace(config, **(smaller | changes))


def config_for(corpus, method="alibi", **changes):
    return small(configure(RunSpec(method=method, train_length=32, steps=12), corpus), **changes)


def steps_done(training, steps):
    """The same training after so many steps, on as many threads as `train` takes: another number rounds otherwise."""
    settle_cpu(training.config.threads)
    for _ in range(steps):
        training.step()
    return training


def resumed_after(config, corpus, steps):
    """A training that goes on from the checkpoint of another one, made after so many steps."""
    resumed = Training(config, corpus)
    resumed.restore(steps_done(Training(config, corpus), steps).checkpoint())
    return resumed


def signal_at(folder, moment, step, number, process):
    """Has this process send a signal at a moment of a step or of the save after it.

    Args:
        folder: of the run.
        moment: "step", as it begins; "row", in the middle of its row of the metrics; "gather", before the state of the
            run is gathered to be saved, "gathered", after that; in the save, "tensors" in the
            middle of them, "facts" after tensors and facts, "rename" before it, "renamed" after it, "older" before the
            checkpoint before is removed, "removal" in the middle of that.
        step: from 1.
        number: of the signal.
        process: that gets it.
    """
    place = f"{step:09}"

    def half_a_row(self):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(f'{{"step": {step}, "tok')

    def half_the_tensors(tensors, path):
        save_file(tensors, path)
        os.truncate(path, path.stat().st_size // 2)

    def half_of_it(old):
        (old / checkpoint.TENSORS).unlink()

    def written(path):
        return path.parent.name.startswith(place) and path.name == checkpoint.TENSORS

    def replaced(old):
        return (old.parent / place).is_dir()

    # What the run calls at that moment, whether a call is the one, and what of it is done before the signal.
    called, chosen, done = {
        "step": ((Training, "step"), lambda self: self.done == step - 1, None),
        "row": ((Training, "step"), lambda self: self.done == step, half_a_row),
        "gather": ((Training, "checkpoint"), lambda self: self.done == step, None),
        "gathered": ((Training, "checkpoint"), lambda self: self.done == step, Training.checkpoint),
        "tensors": ((checkpoint, "save_file"), lambda _, path: written(path), half_the_tensors),
        "facts": ((checkpoint, "sha256"), written, None),
        "rename": ((Path, "rename"), lambda old, new: new.name == place, None),
        "renamed": ((checkpoint, "to_disk"), lambda at: (at / place).is_dir(), None),
        "older": ((checkpoint, "remove_folder"), replaced, None),
        "removal": ((checkpoint, "remove_folder"), replaced, half_of_it),
    }[moment]
    right = getattr(*called)

    def call(*arguments):
        if chosen(*arguments):
            setattr(*called, right)
            if done is not None:
                done(*arguments)
            os.kill(process, number)
        return right(*arguments)

    setattr(*called, call)


def run_as_command(folder, options):
    """Trains as `python -m alibi train` does, to its exit status."""
    from alibi.__main__ import COMMANDS, main

    # Six batches an epoch, so that a run crosses epochs.
    corpus = period_corpus(3200)
    # A restart by torchrun is left in peace.
    first_time = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if "signal_at" in options and options.get("rank", 0) == int(os.environ.get("RANK", "0")) and first_time:
        launcher = options.get("to_launcher", False)
        signal_at(folder, *options["signal_at"], os.getppid() if launcher else os.getpid())

    def run() -> None:
        """Trains."""
        with processes.group():
            run_in_group()

    def run_in_group() -> None:
        bookkeeping = Bookkeeping(
            checkpoint_every=options.get("every", 5), keep=options.get("keep", 2), log_every=1, validate_every=10
        )
        config = config_for(
            corpus,
            steps=options.get("steps", 12),
            compiled=options.get("compiled", False),
            processes=processes.count(),
            parallel=options.get("parallel", "ddp"),
        )
        train(config, corpus, folder, bookkeeping=bookkeeping)

    COMMANDS.clear()
    COMMANDS.update(train=run, other=run)
    sys.argv = ["alibi", "train"]
    main()


def stop_after(monkeypatch, step, number=signal.SIGTERM):
    """Sends this process a signal in the middle of the step before."""
    right = Training.step

    def stepping(self):
        if self.done == step - 1:
            signal.raise_signal(number)
        return right(self)

    monkeypatch.setattr(Training, "step", stepping)


if __name__ == "__main__":
    run_as_command(Path(sys.argv[1]), json.loads(sys.argv[2]))
