"""The benchmark: what it compares, how it names it, and what it refuses. No speed is asserted."""

import itertools
import json
import multiprocessing
import os
from dataclasses import replace

import pytest
import torch
from conftest import ROOT

from alibi.__main__ import main
from alibi.attention import causal_attention
from alibi.device import compute_dtype
from alibi.evaluate import EVALUATION_DTYPE
from alibi.interruption import Pool
from alibi.positions import LinearBias
from alibi.reproduction.speed_cells import SpeedCell, T5FormsCell
from alibi.speed import (
    attention,
    benchmark,
    evaluation,
    memory,
    peers,
    shapes,
    t5_forms,
    timing,
    training_steps,
    trials,
)
from alibi.speed.benchmark import BenchError
from alibi.speed.evaluation import scoring
from alibi.speed.peers import PeerError
from alibi.speed.shapes import WINDOWED_ALIBI, Contender, Shape, training

pytestmark = pytest.mark.slow

TINY = Shape(name="tiny", size="tiny", layers=1, width=32, heads=4, length=16, tokens=64, vocabulary=60)
compile_ = torch.compile


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)
    # Without the C++ compiler, which takes half a minute for a model.
    monkeypatch.setattr(torch, "compile", lambda function, **given: compile_(function, backend="eager", **given))


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["alibi", "bench", "--shapes", "tiny", "--device", "cpu", *arguments])
    main()


def test_methods_and_peers_take_turns_and_are_divided(tmp_path, monkeypatch, capsys):
    def some_compiled(function, **given):
        broken = given.get("dynamic") is False and next(compilations) == 2
        return compile_(function, backend=fail if broken else "eager", **given)

    def fail(*_):
        raise RuntimeError("no code for [/this]")

    compilations = itertools.count()
    monkeypatch.setattr(torch, "compile", some_compiled)
    monkeypatch.setattr("os.getloadavg", lambda: (1.9, 0.0, 0.0))
    out = tmp_path / "bench.json"
    run(monkeypatch, "--methods", "sinusoidal", "alibi", "t5", "--peers", "--json", str(out))
    found, told = json.loads(out.read_text()), capsys.readouterr().out
    assert found.keys() == {"machine", "ceilings", "rows", "ratios", "standard_errors"}
    assert {"device", "torch_version", "threads", "dtype", "commit", "date"} <= found["machine"].keys()
    assert "busy" in found["machine"]["note"] and found["machine"]["note"] in told
    assert max(map(len, told.splitlines())) <= 120

    rows = {row["contestant"]: row for row in found["rows"]}
    forms = ("eager", "compiled", "as installed")
    expected = {f"peer {peer}{told}" for peer in peers.PEERS for told in ("", " (as installed)")}
    assert set(rows) == {"sinusoidal", "alibi", "t5"} | expected
    for row in rows.values():
        assert 0 < row["low"] <= row["seconds"] <= row["high"] and row["warm_up"] > 0 and row["steps"] >= 10
        # Of the median of so many steps, from the quartiles: a share of their distance, however busy the machine is.
        spread = row["high"] - row["low"]
        assert spread > 0 and row["standard_error"] == pytest.approx(1.253 / 1.349 * spread / row["steps"] ** 0.5)
        assert row["tokens_per_second"] == pytest.approx(64 / row["seconds"])
        assert (row["share_of_matmul_rate"] is None) == row["contestant"].startswith("peer")
        assert row["form"] in forms
    for method in ("sinusoidal", "alibi", "t5"):
        row = rows[method]
        # Without a bias, columns would be sdpa by another name.
        ways = 3 if method == "sinusoidal" else 4
        assert row["kernel"] in trials.CANDIDATES["cpu"] and len(row["tried"]) + len(row["refused"]) == ways
    assert list(rows["t5"]["refused"]) == ["columns, eager"]
    # A peer that can't be compiled competes eager, and the table says so.
    failed = rows["peer x-transformers ALiBi"]
    assert failed["form"] == "eager" and "no code for [/this]" in failed["refused"]["compiled"]
    assert "refused at tiny, peer x-transformers ALiBi: compiled" in told
    assert all(len(rows[f"peer {peer}"]["tried"]) == 2 for peer in peers.PEERS if peer != "x-transformers ALiBi")

    best = ("ALiBi peer", "peer of any method", "ALiBi peer as installed", "peer of any method as installed")
    assert found["ratios"].keys() == {
        "train_step alibi/sinusoidal",
        "train_step t5/sinusoidal",
        *(f"speed alibi/{peer}" for peer in expected),
        *(f"speed alibi/best {kind}" for kind in best),
    }
    assert all(by_shape.keys() == {"tiny"} and by_shape["tiny"] > 0 for by_shape in found["ratios"].values())
    assert found["standard_errors"].keys() == found["ratios"].keys()
    assert not multiprocessing.active_children()


def test_ratios_are_of_what_their_names_say(monkeypatch):
    def turns(steps, budget, label):
        """Each contestant takes a second more than the one before it."""
        return {name: [float(place)] * 10 for place, name in enumerate(steps, 1)}

    for module in (training_steps, evaluation):
        monkeypatch.setattr(module, "take_turns", turns)
    monkeypatch.setattr(trials, "CANDIDATES", {"cpu": ("reference",)})
    methods = ("sinusoidal", "alibi", "t5")
    found = benchmark.bench(("tiny",), device="cpu", methods=methods, parts=("train", "evaluation")).as_json()
    ratios = {name: by_shape["tiny"] for name, by_shape in found["ratios"].items()}
    assert {name: ratio for name, ratio in ratios.items() if "sliding" not in name} == {
        "train_step alibi/sinusoidal": 2,
        "train_step t5/sinusoidal": 3,
        **{
            f"evaluate {method}/sinusoidal at {at}": n
            for n, method in ((2, "alibi"), (3, "t5"))
            for at in ("L", "16 L")
        },
    }
    # A speed: one at a time takes two seconds where the batches take one.
    assert ratios["evaluate sliding batched/one at a time"] == 2


def test_evaluation_and_memory_are_measured_where_asked(monkeypatch, capsys):
    found = benchmark.bench(("tiny",), device="cpu", parts=("evaluation", "memory")).as_json()
    assert not found["rows"]
    assert {(row["method"], row["protocol"], row["length"]) for row in found["evaluation"]} == {
        *((method, "nonoverlapping", length) for method in ("sinusoidal", "alibi") for length in (16, 256)),
        ("alibi", "sliding window, batched", 16),
        ("alibi", "sliding window, one at a time", 16),
    }
    for row in found["memory"]:
        train, *evaluate = (row[f"{peak}_bytes"] for peak in ("train", "evaluate_8L", "evaluate_16L"))
        # Far below what this process has taken, from which the children were started.
        assert 0 < train < 2**29 and 0 <= evaluate[0] <= evaluate[1]
    assert found["ratios"].keys() == {
        "evaluate alibi/sinusoidal at L",
        "evaluate alibi/sinusoidal at 16 L",
        "evaluate sliding batched/one at a time",
        "train_memory alibi/sinusoidal",
        "evaluate_memory alibi/sinusoidal",
        "evaluate_memory alibi at 16 L/8 L",
        "evaluate_memory sinusoidal at 16 L/8 L",
    }


def test_memory_is_what_the_allocator_hands_out():
    def work():
        torch.ones(1000), torch.ones(2000)  # One after the other is freed.
        return torch.ones(500) + torch.ones(500)

    assert memory.allocated_at_most(work, "cpu") == 4 * (1000 + 2000)
    counted = [
        memory._training_memory(TINY, Contender(name), "baddbmm", "cpu", 1) for name in ("sinusoidal", "t5", "t5")
    ]
    # Weights, gradients and two moments; T5 has a table of 32 numbers a head more, and the same bytes each time.
    assert counted[0] > 4 * 4 * TINY.unmade("sinusoidal").parameter_count()
    assert 4 * 4 * 32 * 4 <= counted[1] - counted[0] < 2**18 and counted[1] == counted[2]


def test_records_have_the_kernel_that_ran_and_a_standard_error(monkeypatch):
    """Where masks are slow, ALiBi's fastest kernel in training is columns; the shared kernel is recorded beside it."""
    monkeypatch.setitem(trials.CANDIDATES, "cpu", ("columns", "sdpa"))
    cell = SpeedCell("quick", "tiny", ("sinusoidal", "alibi"), kernel="baddbmm")
    records = cell.records()
    known = {(number["method"], number["metric"]) for number in cell.numbers()}
    assert set(zip(records.method, records.metric, strict=True)) == known and cell.recorded(records)
    assert not cell.recorded(records[records.metric != "eval_speed_standard_error"])
    assert (records.value > 0).all()
    assert set(records.dtype[records.metric.str.startswith("eval_")]) == {EVALUATION_DTYPE}
    for metric in ("train_speed", "eval_speed", "train_memory"):
        for method, rows in records[records.metric == metric].groupby("method"):
            (*_, fastest) = kernels = list(rows.kernel)
            assert "baddbmm" in kernels and (method == "alibi" or "columns" not in kernels)
            ratio = records[(records.metric == f"{metric.replace('speed', 'time')}_ratio") & (records.method == method)]
            assert set(ratio.kernel) <= {fastest}
    assert set(records.kernel[records.metric.str.contains("on_one_kernel")]) == {"baddbmm"}
    alone = replace(cell, kernel=None)
    assert not any("on_one_kernel" in number["metric"] for number in alone.numbers())


def test_dtypes_that_are_recorded_are_those_that_run():
    run, seen = training(TINY, Contender("alibi"), "baddbmm", "cpu", compiled=False), set()
    run.model.layers[0].queries_keys_values.register_forward_hook(lambda _, __, out: seen.add(out.dtype))
    scoring(run.model, TINY, 32, 16, None, 32)()
    assert seen == {getattr(torch, EVALUATION_DTYPE)}
    seen.clear()
    run.step()
    assert seen == {getattr(torch, compute_dtype("cpu"))}


@pytest.mark.parametrize("form", t5_forms.FORMS)
def test_forms_of_the_t5_bias_compute_the_same(form):
    """The loss and the gradient of the table, which the model's optimiser goes on to move."""
    tokens = torch.arange(65) * 7 % TINY.vocabulary

    def loss_and_gradient(form):
        torch.manual_seed(0)
        run = training(TINY, Contender("t5"), "baddbmm", "cpu", compiled=False)
        table = run.model.positions.weights_KH
        t5_forms.give_form(run.model, form)
        loss = run.model.negative_log_likelihood(tokens[None, :-1], tokens[None, 1:]).sum()
        (gradient,) = torch.autograd.grad(loss, table)
        run.step()
        return loss.detach(), gradient, table.detach()

    for found, expected in zip(loss_and_gradient(form), loss_and_gradient("t5"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_forms_of_the_t5_bias_look_up_as_often_as_their_names_say(monkeypatch):
    counted = []
    bucket = t5_forms.T5Bias.bias(t5_forms.T5Bias(32, 4)).bucket
    monkeypatch.setattr(
        "alibi.positions.t5.bucket", lambda distance, **given: (counted.append(distance.numel()), bucket(distance))[1]
    )
    shape = replace(TINY, layers=3)
    for form, expected in zip(t5_forms.FORMS, ([16], [256], [256] * 3), strict=True):
        run = training(shape, Contender("t5"), "baddbmm", "cpu", compiled=False)
        t5_forms.give_form(run.model, form)
        counted.clear()
        with torch.no_grad():
            run.model(torch.zeros(1, 16, dtype=torch.long))
        assert counted == expected


def test_the_forms_of_the_t5_bias_are_recorded():
    cell = T5FormsCell("quick", "tiny")
    records = cell.records()
    assert cell.recorded(records) and not cell.recorded(records.iloc[1:])
    assert len(records) == len(cell.numbers()) == 4 * 4 + 3 * 4 and (records.value > 0).all()
    assert set(records.method) == {"sinusoidal", *t5_forms.FORMS} and set(records.kernel) == {"baddbmm"}


def test_the_standard_error_of_a_median():
    """Against medians of many samples of the same size; an outlier does not move it."""
    draws = torch.randn(4000, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    estimates = [timing.median_of(row) for row in draws.tolist()]
    spread = float(torch.tensor([estimate.value for estimate in estimates]).std())
    assert sum(estimate.standard_error for estimate in estimates) / len(estimates) == pytest.approx(spread, rel=0.15)
    assert timing.median_of([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 1000]).standard_error < 2


def test_the_whole_table_has_rivals_and_every_part(monkeypatch):
    whole = {
        "one": replace(TINY, name="one", rivals=(WINDOWED_ALIBI,)),
        "for a GPU": replace(TINY, name="for a GPU", on_cpu=False),
    }
    monkeypatch.setattr(benchmark, "SHAPES", whole)
    monkeypatch.setitem(attention.ATTENTION_LENGTHS, "cpu", (32,))
    # One child for all measurements of memory: here their numbers mean nothing.
    monkeypatch.setattr(memory, "Pool", lambda workers, tasks_per_child: Pool(workers))
    found = benchmark.bench(("all",), device="cpu").as_json()
    contestants = ["sinusoidal", "alibi", "alibi+window"]
    assert [(row["shape"], row["contestant"]) for row in found["rows"]] == [("one", name) for name in contestants]
    assert found["evaluation"] and found["memory"] and found["kernels"]


def test_what_is_asked_for_twice_is_measured_once(monkeypatch):
    shapes = {"one": replace(TINY, name="one"), "other": TINY}
    monkeypatch.setattr(benchmark, "SHAPES", shapes)
    found = benchmark.bench(("other", "one", "all"), device="cpu", methods=("alibi", "alibi"), parts=("evaluation",))
    found = found.as_json()
    measured = [(row["shape"], row["protocol"], row["length"]) for row in found["evaluation"]]
    assert len(set(measured)) == len(measured)
    assert list(dict.fromkeys(shape for shape, *_ in measured)) == ["tiny", "one"]
    assert not any("alibi/alibi" in name for name in found["ratios"])


def test_attention_alone_names_kernels():
    rows, ratios = attention.attention("cpu", (64,))
    measured = {(row.bias, row.kernel) for row in rows if row.seconds}
    assert {("none", "sdpa"), ("alibi", "baddbmm"), ("alibi", "columns")} <= measured
    assert any(row.bias == "alibi+window" for row in rows)
    assert "flex" not in {row.kernel for row in rows}
    assert {ratio.title for ratio in ratios} == {"attention alibi/none", "attention alibi+window/none"}
    assert all(ratio.column == "64" and ratio.value > 0 for ratio in ratios)


def test_a_kernel_that_fails_in_any_way_ends_no_measurement(monkeypatch):
    """As an allocator of a CPU does, which knows no error of its own."""

    def failing(bias, queries_T, keys_T, kernel):
        if isinstance(bias, LinearBias):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return causal_attention(bias, queries_T, keys_T, kernel)

    monkeypatch.setattr(attention, "causal_attention", failing)
    rows, ratios = attention.attention("cpu", (64,))
    refused = [row for row in rows if row.bias.startswith("alibi")]
    assert {row.refused for row in refused} == {"RuntimeError: DefaultCPUAllocator: can't allocate memory"}
    assert any(row.bias == "none" and row.seconds for row in rows) and not ratios


def test_the_memory_of_a_kernel_that_does_not_run_is_left_out_and_told(capsys):
    rows, ratios = memory.memory(TINY, {Contender("alibi"): "sdpa"}, "cpu", beyond=False, kernel="window")
    assert [(row.kernel, row.fastest) for row in rows] == [("sdpa", True)] and not ratios
    told = "warning: alibi at shape tiny does not train on kernel window, whose memory is left out: InputError: kernel"
    assert told in capsys.readouterr().err


def test_models_of_other_libraries_have_the_size_of_ours():
    """Weights that multiply tokens in the layers: of queries, keys, values, output, and twice of the fourfold width."""
    for name, peer in peers.PEERS.items():
        vocabulary = TINY.vocabulary
        of_layers = [p for p in peer.build(TINY, True).parameters() if p.dim() == 2 and vocabulary not in p.shape]
        assert sum(p.numel() for p in of_layers) == TINY.layers * 12 * TINY.width**2, name


def test_the_process_of_the_peers_knows_no_settings_and_ends_with_the_block(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "65536")
    with pytest.raises(KeyError, match="nobody"), peers.as_installed("cpu") as beside:
        (child,) = multiprocessing.active_children()
        assert beside._ask(os.getenv, "MALLOC_TOP_PAD_") is None
        assert beside._ask(torch.get_num_threads) == torch.get_num_threads()
        beside.step("nobody")
    assert not child.is_alive()
    assert os.environ["MALLOC_TOP_PAD_"] == "65536"


def test_the_death_of_the_process_is_told():
    with pytest.raises(PeerError, match="died"), peers.as_installed("cpu") as beside:
        beside._ask(os._exit, 1)


def test_what_can_not_be_measured_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="unknown shape 'W9'; choose from W1, W2, W2-1024"):
        benchmark.bench(("W9",))
    with pytest.raises(ValueError, match="unknown position method 'alibbi'; choose from sinusoidal"):
        benchmark.bench(("tiny",), methods=("alibbi",))
    with pytest.raises(ValueError, match="learned at shape W1: parts evaluation and memory read 16 L: position 2047"):
        benchmark.bench(("W1",), device="cpu", methods=("alibi", "learned"), parts=("evaluation",))
    with pytest.raises(ValueError, match="unknown part 'speed'; choose from train, evaluation, memory, kernels"):
        benchmark.bench(("tiny",), parts=("speed",))
    with pytest.raises(ValueError, match="unknown attention kernel 'badbmm'; choose from reference, baddbmm"):
        benchmark.bench(("tiny",), device="cpu", kernel="badbmm")
    with pytest.raises(ValueError, match="only a linear"):
        benchmark.bench(("tiny",), device="cpu", methods=("rotary+window",))
    with pytest.raises(ValueError, match=r"part memory is measured at shapes .*tiny"):
        benchmark.bench(("W2-1024",), device="cpu", parts=("memory",))
    for shape, part in (("W1", "evaluation"), ("W2-1024", "train")):
        with pytest.raises(ValueError, match=r"peers are measured in part train at shapes .*tiny"):
            benchmark.bench((shape,), peers=True, device="cpu", parts=(part,))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BenchError, match="torch sees no CUDA GPU"):
        benchmark.bench(("tiny",), device="cuda")
    monkeypatch.setitem(trials.CANDIDATES, "cpu", ("columns",))
    with pytest.raises(BenchError, match=r"no attention kernel runs t5 at shape tiny on cpu: .*TableBias"):
        benchmark.bench(("tiny",), device="cpu", methods=("t5",))


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "x_transformers", None)
    with pytest.raises(PeerError, match=r"x_transformers.*pip install alibi-book\[test\]"):
        benchmark.bench(("tiny",), peers=True, device="cpu")


def test_the_readme_names_the_command():
    assert "python -m alibi bench" in (ROOT / "README.md").read_text()
