"""The losses of small fixed runs are stored: when they move, runs in the cache are no longer what the code trains.

`python tests/test_loss_trace.py` stores those of a new method, and of RECIPE or a method's version after it was counted
up. What is stored under its name stays, so that a loss can't move without a count.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import DROPOUTS, config_for, period_corpus

from alibi.configuration import RECIPE
from alibi.positions import METHODS
from alibi.train import Training

STORED = Path(__file__).with_name("loss_traces.json")
STEPS = 8
# Of a loss, relative: ten times what it differs by with AVX-512, AVX2, no vector instructions, one and two threads.
TOLERANCES = {"float32": 2e-6, "bfloat16": 6e-3}
CASES = [(method, "float32", "adamw") for method in METHODS]
CASES += [("alibi", "float32", "paper"), ("alibi", "bfloat16", "adamw"), ("t5", "bfloat16", "adamw")]


def trace(method, dtype, recipe):
    """The loss of each step, and the name under which it is stored: it tells the recipe and the method's version."""
    corpus = period_corpus(4000)
    config = config_for(corpus, method, steps=STEPS, dtype=dtype, recipe=recipe, tokens_at_once=256)
    # Random numbers beyond the first weights are another matter: torch draws them in other orders on other systems.
    config = replace(config, model=replace(config.model, **dict.fromkeys(DROPOUTS, 0.0)))
    training = Training(config, corpus)
    if method == "alibi-random":
        # torch draws them in another order from one version to the next.
        training.model.positions.slopes_H.copy_(torch.linspace(0.05, 0.5, config.model.heads))
    name = f"{method} {dtype} {recipe}, recipe {RECIPE}, version {METHODS[method].version}"
    return name, [training.step()[0] for _ in range(STEPS)]


@pytest.mark.parametrize(("method", "dtype", "recipe"), CASES)
def test_what_runs_learn_moves_only_with_the_count_that_keys_their_cache(method, dtype, recipe):
    name, losses = trace(method, dtype, recipe)
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert name in stored, f"no losses are stored for {name}: python {Path(__file__).name} stores them"
    told = "the code trains other models than those in the cache: count up RECIPE or the method's version"
    assert losses == pytest.approx(stored[name], rel=TOLERANCES[dtype]), told


if __name__ == "__main__":
    before = json.loads(STORED.read_text(encoding="utf-8"))
    traces = {name: before.get(name, losses) for name, losses in (trace(*case) for case in CASES)}
    STORED.write_text(json.dumps(traces, indent=1) + "\n", encoding="utf-8")
