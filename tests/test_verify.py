"""The official vectors: everything equal, and every mistake that can be made is seen."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import independent
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

from alibi import evaluate, optim
from alibi.__main__ import main
from alibi.corpora.vocabulary import WordVocabulary
from alibi.embedding import AdaptiveEmbedding
from alibi.model import Decoder, Layer
from alibi.official import verify
from alibi.official.vectors import Vectors, VectorsError
from alibi.positions import alibi as alibi_file
from alibi.positions import sinusoidal
from alibi.windows import Window

pytestmark = pytest.mark.slow

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture
def vectors():
    """The vectors, with two modes of evaluation in place of all: a mistake must show in those."""
    found = Vectors(GOLDEN)
    valid = found.reference["evaluation"]["valid"]
    kept = [e for e in valid if (e["mode"], e["length"]) in (("nonoverlapping", 64), ("irregular", 32))]
    found.reference["evaluation"] = {"valid": kept}
    return found


def command(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["alibi", "verify", *map(str, arguments)])
    try:
        main()
    except SystemExit as stopped:
        return stopped.code
    return 0


@pytest.fixture(params=[1, 2], ids=lambda threads: f"{threads} threads")
def threads(request):
    torch.set_num_threads(request.param)
    return request.param


def test_the_command_finds_every_quantity_equal(monkeypatch, capsys):
    assert command(monkeypatch) == 0
    told = capsys.readouterr().out
    rows = [line for line in told.splitlines() if line.endswith("equal")]
    assert len(rows) == 37 and "DIFFERENT" not in told and "all 37 quantities equal" in told
    for quantity in ("dictionary", "stream", "windows", "247M model, 246,933,504", "slopes", "perplexity sliding"):
        assert quantity in told
    for quantity in ("log-probability of every", "residual stream", "training steps", "learning rate", "Nesterov"):
        assert quantity in told


ROUNDED = (verify.log_probabilities, verify.training)


def test_rounding_stays_within_its_bounds_with_any_number_of_threads(threads):
    assert not [name for group in ROUNDED for name in failing(group(Vectors(GOLDEN)))]


def test_rounding_stays_within_its_bounds_on_a_cpu_without_avx512():
    # torch chooses its kernels when it starts, so that it takes a process.
    program = """
import sys, torch
from pathlib import Path
from alibi.official import verify
from alibi.official.vectors import Vectors
for threads in (1, 2):
    torch.set_num_threads(threads)
    for group in (verify.log_probabilities, verify.training):
        assert all(check.passed for check in group(Vectors(Path(sys.argv[1])))), (threads, group)
"""
    avx2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    subprocess.run([sys.executable, "-c", program, GOLDEN], env=os.environ | avx2, check=True)


def test_a_bound_follows_the_unit_of_rounding_and_not_the_machine(threads):
    vectors = Vectors(GOLDEN)
    float32, float64 = (verify._loss_bounds(vectors, dtype)["token"] for dtype in (torch.float32, torch.float64))
    assert float64 / float32 == pytest.approx(2**-29, rel=0.1)
    assert float32 == pytest.approx(5.9e-5, rel=0.1)


SHAPES = [
    {"heads": 12, "width": 48, "cutoffs": (20, 50)},
    {"heads": 6, "width": 192, "layers": 1, "cutoffs": (9, 30, 60), "feedforward": 30},
    {"heads": 5, "width": 20, "cutoffs": (30,)},
    {"heads": 16, "width": 64, "layers": 1, "cutoffs": (20, 50)},
    {"heads": 1, "width": 16, "layers": 2, "words": 300, "cutoffs": (90, 200)},
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape['heads']} heads")
def test_vectors_of_other_shapes_by_another_implementation(tmp_path, monkeypatch, capsys, shape):
    independent.write(tmp_path / "vectors", GOLDEN, **shape)
    assert command(monkeypatch, tmp_path / "vectors") == 0
    assert ("irrational slopes" in capsys.readouterr().out) == (shape["heads"] in (12, 16))


# The ten mistakes that change the perplexity, each made in the package itself.


def unscaled_embedding(patch):
    right = AdaptiveEmbedding.forward
    patch.setattr(AdaptiveEmbedding, "forward", lambda self, tokens: right(self, tokens) / math.sqrt(self.width))


def final_norm(patch):
    right = Decoder.forward
    patch.setattr(Decoder, "forward", lambda self, *given: F.layer_norm(out := right(self, *given), out.shape[-1:]))


def first_projection_on_the_way_out(patch):
    def head(self):
        words, classes = self.tables[0] @ self.projections[0].T, self.classes_KC
        return lambda hidden: F.linear(hidden, torch.cat([words, classes]))

    patch.setattr(AdaptiveEmbedding, "_head_logits", head)


def class_rows_reversed(patch):
    def head(self):
        return lambda hidden: F.linear(hidden, torch.cat([self.tables[0], self.classes_KC.flip(0)]))

    patch.setattr(AdaptiveEmbedding, "_head_logits", head)


def other_slopes(patch):
    patch.setattr(alibi_file, "slopes", lambda heads: [2 ** (-8.4 * (i + 1) / heads) for i in range(heads)])


def windows_become(patch, change):
    right = evaluate.evaluation_windows
    patch.setattr(evaluate, "evaluation_windows", lambda *given: change(list(right(*given)), *given))


def last_block_dropped(patch):
    windows_become(patch, lambda windows, tokens, length, *_: windows[:-1] if tokens % length else windows)


def first_token_of_a_block_not_scored(patch):
    windows_become(
        patch, lambda windows, *_: [Window(w.start, w.scored + (w.start == w.scored), w.end) for w in windows]
    )


def not_scored(patch, token):
    right, right_evaluate = Decoder.negative_log_likelihood, verify.evaluate

    def losses(self, sources, targets, context=0):
        return right(self, sources, targets, context) * (targets[:, context:] != token)

    def fewer(model, split, *given):
        found = right_evaluate(model, split, *given)
        return replace(found, tokens=found.tokens - int((split.tokens == token).sum()))

    patch.setattr(Decoder, "negative_log_likelihood", losses)
    patch.setattr(verify, "evaluate", fewer)


def end_of_line_not_scored(patch):
    not_scored(patch, 2)


def unknown_words_not_scored(patch):
    not_scored(patch, 3)


def first_irregular_window_scores_all_its_positions(patch):
    def grid(windows, tokens, length, stride, skip):
        if stride is None:
            return windows
        later = range(length, tokens, stride)
        return [Window(0, 0, length)] + [Window(s - length + stride, s, min(s + stride, tokens)) for s in later]

    windows_become(patch, grid)


MISTAKES = [
    unscaled_embedding,
    final_norm,
    first_projection_on_the_way_out,
    class_rows_reversed,
    other_slopes,
    last_block_dropped,
    first_token_of_a_block_not_scored,
    end_of_line_not_scored,
    unknown_words_not_scored,
    first_irregular_window_scores_all_its_positions,
]


def failing(checks):
    return [check.quantity for check in checks if not check.passed]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_mistake_the_perplexities_are_equal(vectors, dtype):
    assert not failing(verify.perplexities(vectors, dtype))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_changes_the_perplexity(vectors, monkeypatch, mistake):
    mistake(monkeypatch)
    assert any("perplexity" in quantity for quantity in failing(verify.perplexities(vectors, torch.float32)))


# Other conventions of the official code, each seen by the group of checks that it belongs to.


def bias_divided_by_the_root(patch):
    right = alibi_file.slopes
    patch.setattr(alibi_file, "slopes", lambda heads: [slope / math.sqrt(8) for slope in right(heads)])


def start_of_text_first(patch):
    patch.setattr(Vectors, "end_of_line", 0)


def gelu(patch):
    right = Layer.forward

    def forward(self, *given):
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(torch.Tensor, "relu", lambda x: F.gelu(x))
            return right(self, *given)

    patch.setattr(Layer, "forward", forward)


def no_gap(patch):
    right = AdaptiveEmbedding.negative_log_likelihood
    patch.setattr(AdaptiveEmbedding, "negative_log_likelihood", lambda self, h, t, gap=False: right(self, h, t))


def gap_everywhere(patch):
    right = AdaptiveEmbedding.negative_log_likelihood
    patch.setattr(AdaptiveEmbedding, "negative_log_likelihood", lambda self, h, t, gap=True: right(self, h, t, True))


def nesterov_of_torch(patch):
    def sgd(parameters, lr, momentum=0.99, weight_decay=0.0):
        return torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=True)

    patch.setattr(verify, "NAG", sgd)


def buffer_without_the_ratio_of_rates(patch):
    right = optim.NAG.step

    def step(self):
        for group in self.param_groups:
            group["last_lr"] = None
        return right(self)

    patch.setattr(optim.NAG, "step", step)


def rates_do_not_shrink(patch):
    right = verify.cosine_restarts
    patch.setattr(verify, "cosine_restarts", lambda optimizer, **flags: right(optimizer, **flags | {"shrink": 1.0}))


def textbook_frequencies(patch):
    def sinusoid(rows, width):
        frequencies = 10000.0 ** (-torch.arange(width // 2) / (width // 2))
        return torch.cat([(rows[:, None] * frequencies).sin(), (rows[:, None] * frequencies).cos()], dim=-1)

    patch.setattr(verify, "sinusoid", sinusoid)


def positions_from_zero(patch):
    patch.setattr(verify, "FIRST_ROW", sinusoidal.FIRST_ROW - 2)


def ties_as_they_come(patch):
    right = WordVocabulary.__init__

    def reversed_ties(self, words, counts):
        pairs = sorted(zip(counts, words, strict=True), reverse=True)
        right(self, [word for _, word in pairs], [count for count, _ in pairs])

    patch.setattr(WordVocabulary, "__init__", reversed_ties)


def not_padded(patch):
    patch.setattr(WordVocabulary, "MULTIPLE", 1)


def literal_unknown_is_a_word(patch):
    right = WordVocabulary.encode_lines
    patch.setattr(
        WordVocabulary,
        "encode_lines",
        lambda self, lines: right(self, [line.replace("<unk>", "normobur") for line in lines]),
    )


CONVENTIONS = [
    (bias_divided_by_the_root, verify.log_probabilities),
    (gelu, verify.log_probabilities),
    (start_of_text_first, verify.windows),
    (no_gap, verify.criterion),
    (gap_everywhere, verify.criterion),
    (no_gap, verify.training),
    (nesterov_of_torch, verify.momentum),
    (buffer_without_the_ratio_of_rates, verify.momentum),
    (buffer_without_the_ratio_of_rates, verify.training),
    (rates_do_not_shrink, verify.schedule),
    (textbook_frequencies, verify.sinusoids),
    (positions_from_zero, verify.sinusoids),
    (ties_as_they_come, verify.dictionary),
    (not_padded, verify.dictionary),
    (literal_unknown_is_a_word, verify.streams),
]


@pytest.mark.parametrize(("mistake", "group"), CONVENTIONS)
def test_another_convention_is_seen(monkeypatch, mistake, group):
    vectors = Vectors(GOLDEN)
    assert not failing(group(vectors))
    mistake(monkeypatch)
    assert failing(group(Vectors(GOLDEN)))


# Folders that are wrong.


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("independent") / "vectors"
    independent.write(folder, GOLDEN, heads=8, layers=1)
    return folder


@pytest.fixture
def copy(small, tmp_path):
    return shutil.copytree(small, tmp_path / "vectors")


def change_json(path, change):
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


def test_one_changed_number_fails_the_command(copy, monkeypatch, capsys):
    change_json(copy / "optimizer.json", lambda stored: stored["cosine"]["lr"][7].__setitem__(1, 0.9))
    assert command(monkeypatch, copy) == 1
    told = capsys.readouterr()
    (row,) = [line for line in told.out.splitlines() if "DIFFERENT" in line]
    assert row.startswith("learning rate") and "1 of 34 quantities differ" in told.err


def test_nan_is_not_equal():
    assert not verify.Check("quantity", math.nan, 1.0).passed


def test_a_folder_that_is_not_whole_is_named(copy, monkeypatch, capsys, tmp_path):
    def told(folder):
        assert command(monkeypatch, folder) == 1
        return capsys.readouterr().err

    assert command(monkeypatch, tmp_path / "nowhere") == 2
    assert f"{tmp_path / 'nowhere'} is not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} lacks config.json" in told(tmp_path / "empty")
    (copy / "corpus" / "valid.tokens").rename(copy / "elsewhere")
    assert "lacks corpus/valid.tokens" in told(copy)
    (copy / "elsewhere").rename(copy / "corpus" / "valid.tokens")
    whole = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(whole[:-1000])
    assert "weights.safetensors is not a complete safetensors file" in told(copy)
    (copy / "weights.safetensors").write_bytes(whole)
    change_json(copy / "reference.json", lambda stored: stored.pop("training_steps"))
    assert "lacks the entry 'training_steps'" in told(copy)


@pytest.mark.parametrize("text", ["{}", "[]", '{"model": 1}'])
def test_vectors_without_an_architecture_are_refused(text, copy, monkeypatch, capsys):
    (copy / "config.json").write_text(text)
    assert command(monkeypatch, copy) == 1
    assert "config.json lacks the object 'model'" in capsys.readouterr().err


def test_vectors_of_another_architecture_are_refused(copy):
    change_json(copy / "config.json", lambda stored: stored["model"].__setitem__("activation_fn", "gelu"))
    with pytest.raises(VectorsError, match=r"another architecture, {'activation_fn': 'gelu'}"):
        Vectors(copy)
    change_json(copy / "config.json", lambda stored: stored["model"].__setitem__("activation_fn", "relu"))
    change_json(copy / "config.json", lambda stored: stored["model"].__setitem__("decoder_ffn_embed_dim", 100))
    with pytest.raises(VectorsError, match=r"fc1.weight is \(40, 48\), expected \(100, 48\)"):
        Vectors(copy).model()
