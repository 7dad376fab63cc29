"""A training run of a fraction of a second, with every kind of dropout; as a script, a process that can be killed."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from alibi.configuration import configure
from alibi.corpora.corpus import Corpus, Split
from alibi.run_spec import RunSpec, Upkeep
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
    """The same training after so many steps."""
    for _ in range(steps):
        training.step()
    return training


def resumed_after(config, corpus, steps):
    """A training that goes on from the checkpoint of another one, made after so many steps."""
    resumed = Training(config, corpus)
    resumed.restore(steps_done(Training(config, corpus), steps).checkpoint())
    return resumed


if __name__ == "__main__":
    from alibi.__main__ import COMMANDS, main

    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    # Six batches an epoch, so that a run crosses epochs.
    corpus = period_corpus(3200)

    def run() -> None:
        """Trains."""
        upkeep = Upkeep(checkpoint_every=options.get("every", 5), log_every=1, validate_every=10)
        config = config_for(corpus, steps=options.get("steps", 12), compiled=options.get("compiled", False))
        train(config, corpus, folder, upkeep=upkeep)

    COMMANDS.clear()
    COMMANDS.update(run=run, other=run)
    sys.argv = ["alibi", "run"]
    main()
