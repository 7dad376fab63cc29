"""The benchmark: what it compares, how it names it, and what it refuses. No speed is asserted."""

import json

import pytest
from conftest import ROOT

from alibi import bench
from alibi.__main__ import main
from alibi.bench import BenchError, Shape


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(bench.SHAPES, "tiny", Shape("tiny", 1, 32, 4, 16, 64, vocabulary=60))


def test_methods_and_peers_take_turns_and_are_divided(tmp_path, monkeypatch, capsys):
    out = tmp_path / "bench.json"
    arguments = ["--shapes", "tiny", "--methods", "sinusoidal", "alibi", "t5", "--peers", "--json", str(out)]
    monkeypatch.setattr("sys.argv", ["alibi", "bench", *arguments, "--device", "cpu"])
    main()
    found, told = json.loads(out.read_text()), capsys.readouterr().out
    assert found.keys() == {"machine", "ceilings", "rows", "ratios"}
    assert {"device", "torch_version", "threads", "dtype", "commit", "date"} <= found["machine"].keys()
    rows = {row["contestant"]: row for row in found["rows"]}
    peers = {name for name in rows if name.startswith("peer ")}
    assert set(rows) - peers == {"sinusoidal", "alibi", "t5"}
    assert {
        "peer transformers MPT (ALiBi)",
        "peer x-transformers ALiBi",
        "peer transformers GPT-NeoX (rotary)",
    } <= peers
    for row in rows.values():
        assert 0 < row["low"] <= row["seconds"] <= row["high"]
        assert row["tokens_per_second"] == pytest.approx(64 / row["seconds"])
        assert (row["share_of_matmul_rate"] is None) == row["contestant"].startswith("peer")
        assert row["contestant"] in told
    assert rows["alibi"]["kernel"] in bench.CPU_KERNELS and rows["t5"]["kernel"] != "columns"
    expected = {"train_step alibi/sinusoidal", "train_step t5/sinusoidal", *(f"speed alibi/{peer}" for peer in peers)}
    assert found["ratios"].keys() == expected
    assert all(by_shape.keys() == {"tiny"} and by_shape["tiny"] > 0 for by_shape in found["ratios"].values())


def test_what_can_not_be_measured_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="no shape is named 'W9'; known are W1, W2, W2-1024"):
        bench.bench(("W9",))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BenchError, match="torch sees no CUDA GPU"):
        bench.bench(("tiny",), device="cuda")


def test_the_readme_names_the_command():
    assert "python -m alibi bench" in (ROOT / "README.md").read_text()
