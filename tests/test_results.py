"""Measured numbers in the book: records beside the paper's, and no table that shows a number without a record."""

import ast
import contextlib
import io
import math
import re
import shutil
import subprocess

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from IPython.lib.pretty import pretty
from nbformat.v4 import new_code_cell, new_notebook

from alibi import paths, runs
from alibi.book import page_model, plots, results, tables
from alibi.book.chapters import chapters
from alibi.evaluate import AgainstItself
from alibi.records import MEASURED_COLUMNS, append, measured_results, paper_results
from alibi.reproduction import claims, training_cell

PAPER = paper_results()
NOTEBOOKS = [path for path in chapters(ROOT) if path.suffix == ".ipynb"]
# What a chapter imports to show records or what follows from them.
SOURCES_OF_RECORDS = (
    "alibi.book.results",
    "alibi.book.findings",
    "alibi.records.measured_results",
    "alibi.reproduction.claims",
)


def record(value, method="alibi", length=64, window=64, seed=0, **changes):
    row = {
        "source": "wikitext103",
        "corpus": "wikitext-103",
        "split": "valid",
        "method": method,
        "train_length": length,
        "paper_length": 8 * length,
        "eval_length": window,
        "protocol": "nonoverlapping",
        "metric": "perplexity",
        "value": value,
        "provenance": "measured",
        "scale": "laptop",
        "seed": seed,
        "tokens_trained": 2_457_600,
        "parameters": 16_000_000,
        "corpus_used": "wikipedia -> wikitext-103",
        "device": "some processor",
        "torch_version": "2.9.0",
        "dtype": "float32",
        "commit": "0123456789ab",
        "seconds": 1800.0,
    }
    return row | changes


def frame(*rows):
    return pd.DataFrame(rows).reindex(columns=MEASURED_COLUMNS)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Records in a folder of their own."""
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    return tmp_path


def beside(*rows, tables=("Table 2",), caption="Table 2: ours beside"):
    """The texts of the table that lays the records beside the paper's tables, by method, L and L_valid."""
    append("wikitext103", frame(*rows))
    return results.beside(PAPER[PAPER.source.isin(tables)], results.results("wikitext103"), caption).data


def test_without_records_everything_says_so(folder):
    empty = results.results("wikitext103", "laptop")
    assert empty.empty and "paper_eval_length" in empty
    assert results.described(empty) == "Not yet measured."
    assert results.cost(empty).startswith("0 runs")
    assert results.beside(PAPER[PAPER.source == "Table 2"], empty, "Table 2: nothing").data.empty
    assert results.curves(PAPER, empty, ["Table 2"]).source.unique().tolist() == ["Table 2"]


def test_a_smoke_run_is_shown_only_where_all_runs_are(folder, monkeypatch):
    append("wikitext103", frame(record(80), record(7, smoke=True)))
    monkeypatch.delenv("ALIBI_SMOKE", raising=False)
    assert results.results("wikitext103").value.tolist() == [80]
    monkeypatch.setenv("ALIBI_SMOKE", "2")
    assert results.results("wikitext103").value.tolist() == [80, 7]


def test_an_installed_wheel_shows_the_records_that_it_ships_and_adds_to_a_file_of_its_own(folder, monkeypatch):
    append("wikitext103", frame(record(80)))
    shutil.copytree(folder / "results", shipped := folder / "site-packages" / "alibi" / "data" / "results")
    written = (shipped / "wikitext103.csv").read_bytes()
    monkeypatch.delenv("ALIBI_RESULTS")
    monkeypatch.setattr(paths, "PACKAGE", folder / "site-packages" / "alibi")
    assert results.results("wikitext103").value.tolist() == [80]
    append("wikitext103", frame(record(81, seed=1)))
    append("wikitext103", frame(record(82, seed=2)))
    assert measured_results("wikitext103").value.tolist() == measured_results().value.tolist() == [80, 81, 82]
    assert (shipped / "wikitext103.csv").read_bytes() == written
    assert len(pd.read_csv(folder / "cache" / "results" / "wikitext103.csv")) == 2


def test_the_largest_scale_is_shown_unless_one_is_named(folder):
    small = [record(90, scale="quick"), record(80)]
    append("wikitext103", frame(*small, record(20, length=512, window=640, scale="gpu", paper_length=512)))
    assert results.results("wikitext103").value.tolist() == [20]
    assert results.results("wikitext103").paper_eval_length.tolist() == [640]
    assert results.results("wikitext103", "laptop").value.tolist() == [80]
    assert results.results("wikitext103", "laptop").paper_eval_length.tolist() == [512]
    assert results.results("wikitext103", "paper").empty and results.results("slopes").empty
    with pytest.raises(ValueError, match="unknown scale 'huge'; choose from quick, laptop"):
        results.results("wikitext103", "huge")
    with pytest.raises(ValueError, match="unknown experiment 'wikitext'; choose from wikitext103, bookcorpus"):
        results.results(["slopes", "wikitext"])


def test_of_several_texts_the_one_nearest_to_the_papers_is_shown(folder):
    tiny = {"corpus_used": "wikipedia-sample", "tokens_trained": 9_000_000}
    append("wikitext103", frame(record(80), record(70, **tiny), record(81, window=128)))
    assert results.results("wikitext103", "laptop").value.tolist() == [80, 81]
    longer = {"corpus_used": "wikipedia, vocabulary 16384 -> wikitext-103", "tokens_trained": 20_000_000}
    append("wikitext103", frame(record(60, **longer)))
    assert results.results("wikitext103", "laptop").value.tolist() == [60]
    append("early_token_curse", frame(record(50, source="early_token_curse", corpus_used="wikitext-103")))
    assert results.results(["wikitext103", "early_token_curse"], "laptop").value.tolist() == [50]
    assert results.results("wikitext103", "laptop").value.tolist() == [60]


def test_a_caption_names_scale_size_text_seeds_and_machine():
    rows = [record(80), record(81, seed=1), record(82, method="t5", parameters=16_000_256)]
    assert results.described(frame(*rows)) == (
        "Measured at scale laptop: 16,000,000 and 16,000,256 parameters, 2,457,600 tokens of wikipedia evaluated on "
        "wikitext-103; seeds 0, 1; some processor, torch 2.9.0, float32; commit 0123456789ab."
    )
    assert "; seed 1; " in results.described(frame(rows[1]))
    rows[1:] = [record(81, parameters=16_000_128, commit="f" * 12), record(82, parameters=16_000_256, commit="e" * 12)]
    told = results.described(frame(*rows))
    assert ": 16,000,000, 16,000,128 and 16,000,256 parameters, " in told
    assert told.endswith("; commits 0123456789ab, eeeeeeeeeeee and ffffffffffff.")


def test_a_table_of_runs_has_the_seeds_of_each_and_a_dash_for_none(folder):
    append("wikitext103", frame(record(50), record(51, seed=1), record(52, window=128), record(60, "rotary", 384, 384)))
    shown = results.runs("wikitext103", ["laptop", "gpu"])
    assert list(shown.data.index) == ["ALiBi", "T5 bias", "Rotary", "Sinusoidal", "None (NoPE)"]
    assert shown.data["laptop"].loc["ALiBi"].to_dict() == {64: "2", 128: "-", 384: "-"}
    assert list(shown.data["laptop", 384]) == ["-", "-", "1", "-", ""]
    assert set(shown.data["gpu", 512]) == {"-"}
    assert shown.caption.endswith("validation text of wikitext-103")


def test_the_cost_counts_each_run_once():
    two_windows = [record(80), record(81, window=128)]
    assert results.cost(frame(*two_windows)) == "1 run, 30 min of training in all"
    others = [record(80, seed=1), record(80, method="t5"), record(80, length=128), record(80, seconds=None, seed=2)]
    assert results.cost(frame(*two_windows, *others)).startswith("4 runs, 2 h")


def test_the_papers_number_ours_and_the_difference_stand_in_a_row(folder):
    shown = beside(record(100), record(97, window=128), record(200, "sinusoidal"))
    # Table 2: ALiBi 19.73 at 512 tokens, 18.73 at 1012 and 18.69 at 1112; sinusoidal 20.05.
    at_1024 = 18.73 * (18.69 / 18.73) ** (math.log(1024 / 1012) / math.log(1112 / 1012))
    assert shown.loc[("ALiBi", "512", "512")].tolist() == ["19.73", "100.00", "+80.27", "1.000", "1.000"]
    assert shown.loc[("ALiBi", "512", "1024")].tolist()[:3] == [f"{at_1024:.2f}", "97.00", f"{97 - at_1024:+.2f}"]
    assert shown.loc[("ALiBi", "512", "1024")].tolist()[3:] == [f"{at_1024 / 19.73:.3f}", "0.970"]
    assert shown.loc[("Sinusoidal", "512", "512")].tolist()[:3] == ["20.05", "200.00", "+179.95"]
    assert [index[0] for index in shown.index] == ["Sinusoidal", "ALiBi", "ALiBi"]


def test_lengths_pair_within_three_per_cent_and_no_further(folder):
    # The paper's neighbours: 612 and 712, 1012 and 1112, 2512. Windows are ours times 8.
    windows = {"74": 592, "80": 640, "136": 1088, "137": 1096, "300": 2400, "306": 2448}
    shown = beside(*[record(100, window=int(window)) for window in windows])
    found = {int(length) for _, _, length in shown.index}
    assert found == {592, 1088, 1096, 2448}
    assert (shown["the paper, over that at L"] == "").all(), "at L itself nothing was measured"


def test_the_papers_own_models_of_our_length_stand_beside(folder):
    append("wikitext103", frame(record(100), record(95, window=128), record(94, window=80), record(98, window=72)))
    table_2, table_5 = (PAPER[PAPER.source == f"Table {number}"] for number in (2, 5))
    rows = results.results("wikitext103")
    shown = results.beside(table_2, rows, "Table 2: beside", same_length=table_5).data
    # Table 5, trained at 64: 28.46 at 64 tokens and 24.70 at 128; nothing at 72.
    assert shown.loc[("ALiBi", "512", "512")].tolist()[-2:] == ["28.46", "1.000"]
    assert shown.loc[("ALiBi", "512", "1024")].tolist()[-2:] == ["24.70", f"{24.70 / 28.46:.3f}"]
    assert shown.loc[("ALiBi", "512", "576")].tolist()[-2:] == ["", ""]
    # Without overlap is not at stride 1.
    slid = rows.assign(protocol="sliding_window", stride=1)
    table_15 = PAPER[PAPER.source == "Table 15"]
    assert (results.beside(table_15, slid, "x: y", same_length=table_5).data["the paper at our L"] == "").all()


def test_a_method_or_length_without_a_counterpart_is_left_out(folder):
    assert beside(record(100, "alibi-random"), record(100, length=128, window=128)).empty


def test_several_seeds_give_mean_and_standard_deviation(folder):
    shown = beside(*[record(value, seed=seed) for seed, value in enumerate((98, 100, 102))])
    assert shown["measured"].tolist() == ["100.00 ± 2.00"] and shown["difference"].tolist() == ["+80.27"]


def test_each_run_is_divided_by_its_own_perplexity_at_the_training_length(folder):
    rows = [record(100), record(90, window=128), record(200, seed=1), record(150, window=128, seed=1)]
    append("wikitext103", frame(*rows, record(50, window=128, seed=2), record(70, window=128)))
    sliding = frame(record(1, protocol="sliding_window", stride=1, window=128))
    append("wikitext103", sliding)
    # Another protocol, and a sample of the tokens, are other numbers.
    append("wikitext103", frame(record(2, window=128)).assign(skipped=512, sample=16_384))
    found = results.relative(results.results("wikitext103")).set_index(["seed", "multiple"]).ratio
    assert found[0, 2] == 0.7, "of equal rows the last counts"
    assert found[0, 1] == found[1, 1] == 1 and found[1, 2] == 0.75 and pd.isna(found[2, 2])
    budgets = frame(*rows).assign(tokens_trained=[1_000, 1_000, 2_000, 2_000], seed=0)
    budgets = results.relative(budgets.assign(paper_eval_length=budgets.eval_length * budgets.paper_length / 64))
    assert budgets.set_index(["tokens_trained", "multiple"]).ratio.to_dict() == {
        (1_000, 1): 1, (1_000, 2): 0.9, (2_000, 1): 1, (2_000, 2): 0.75
    }  # fmt: skip
    paper = results.relative(PAPER[PAPER.source == "Table 2"]).query("method == 'alibi' and eval_length == 1012")
    assert paper.ratio.item() == pytest.approx(18.73 / 19.73) and paper.multiple.item() == 1012 / 512


def test_a_number_that_is_absent_or_infinite_is_shown_as_that():
    records = pd.DataFrame({
        "method": ["alibi", "rotary", "t5", "sinusoidal"], "metric": "word_perplexity",
        "value": [float("nan"), float("nan"), float("inf"), 2.0], "note": ["", None, "", ""],
    })  # fmt: skip
    table = tables.table(records, "Table: units", ["method"], ["metric"]).data
    assert table.iloc[:, 0].tolist() == ["-", "-", "inf", "2.0"]


def test_verdicts_stand_in_a_table_with_every_part(folder):
    shown = results.verdicts([4, 7])
    assert shown.caption.split("<br>")[:2] == ["Claims 4, 7:", f"4 not yet measured: {claims.CLAIMS[3].title}"]
    assert set(shown.data["the rule"]) == {"not yet measured"} and len(shown.data) == 5
    rows = [record(100 - w / 64, length=n, window=n * w) for n in (64, 128) for w in (1, 2, 4, 8, 16)]
    append("wikitext103", frame(*rows))
    (part,) = results.verdicts([4]).data.to_dict("records")
    # Its gate is not yet measured, and the part stands in the table all the same.
    assert "4 not yet measured: " in results.verdicts([4]).caption
    assert part["the rule"] == "holds laptop" and part["seeds"] == "1"
    assert "95 % interval" not in part  # Columns that are empty for all claims are left out.
    assert part["measured"] == f"{(100 - 2 / 64) / (100 - 1 / 64):.4g}"


def test_protocol_and_metric_are_not_mixed(folder):
    sliding = {"protocol": "sliding_window", "stride": 1}
    assert beside(record(90, **sliding), tables=["Table 15"]).loc[("ALiBi", "512", "512"), "the paper"] == "17.98"
    append("slopes", frame(record(100), record(3000, metric="word_perplexity"), record(50, split="test")))
    rows = results.results("slopes")
    assert results.beside(PAPER[PAPER.source == "Table 2"], rows, "Table 2: x").data["measured"].tolist() == ["100.00"]


# What chapters show of records. Their cells are run again in this process, without figures and training.


class WantsTrainingError(Exception):
    """A cell wants to train."""


def _train(*_, **__):
    raise WantsTrainingError


def words_of(html):
    soup = BeautifulSoup(html, "html.parser")
    for style in soup("style"):
        style.decompose()
    return soup.get_text(" ").split()


def measured_numbers(html):
    """The numbers that stand under a heading which says that they were measured."""
    numbers = []
    for table in BeautifulSoup(html, "html.parser")("table"):
        heads = [
            [h.get_text() for h in row("th") for _ in range(int(h.get("colspan", 1)))] for row in table.thead("tr")
        ]
        columns = list(zip(*heads, strict=False))
        for row in table.tbody("tr"):
            # Counted from the right: a row leaves out index cells that it shares with the one above.
            cells = [cell.get_text().strip() for cell in row(["th", "td"])]
            pairs = zip(reversed(columns), reversed(cells), strict=False)
            found = [text for head, text in pairs if "measured" in " ".join(head).lower() and re.search(r"\d", text)]
            numbers += reversed(found)
    return numbers


def told(outputs):
    """Texts and tables among the outputs of a cell, as words."""
    words, html = [], ""
    for output in outputs:
        data = output.get("data", {})
        if output.output_type == "stream":
            words += output.text.split() if output.name == "stdout" else []
        elif "text/html" in data:
            words += words_of(data["text/html"])
            html += data["text/html"]
        elif "image/png" not in data:
            words += data.get("text/markdown", data.get("text/plain", "")).split()
    return words, html


class Screen:
    """Takes what a cell prints and displays."""

    def __init__(self):
        self.words, self.html = [], ""

    def display(self, *objects):
        for shown in objects:
            if html := getattr(shown, "_repr_html_", lambda: None)():
                self.words += words_of(html)
                self.html += html
            else:
                markdown = getattr(shown, "_repr_markdown_", lambda: None)()
                self.words += (markdown or pretty(shown)).split()

    def run(self, source, namespace):
        body = ast.parse(source).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        printed = io.StringIO()

        def display(*objects):
            flush()
            self.display(*objects)

        def flush():
            self.words += printed.getvalue().split()
            printed.seek(0)
            printed.truncate()

        namespace["display"] = display
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace) if last else None
        flush()
        if value is not None:
            self.display(value)


def shows_records(cells):
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.ImportFrom)]
    return any(f"{node.module}.{alias.name}".startswith(SOURCES_OF_RECORDS) for node in nodes for alias in node.names)


def screens_of(cells, monkeypatch):
    """What these cells print and display now, by their place; one that rests on training is left out."""
    screens, namespace, missing = {}, {"__name__": "__main__"}, set()
    with monkeypatch.context() as patched, plt.rc_context():
        trained = (runs, "trained"), (runs, "cached_run"), (training_cell, "cached_run"), (page_model, "run_of")
        for module, name in (*trained, (subprocess, "run")):
            patched.setattr(module, name, _train)
        patched.setattr(plt, "show", lambda: plt.close("all"))
        for place, cell in enumerate(cells):
            screen = Screen()
            try:
                screen.run(cell.source, namespace)
                screens[place] = screen
            except (WantsTrainingError, NameError) as wrong:
                # A name that no cell would have set is misspelt.
                assert isinstance(wrong, WantsTrainingError) or wrong.name in missing, f"{cell.id}: {wrong}"
                # What it would have set is not there either, for those that come after it.
                nodes = [*ast.walk(ast.parse(cell.source))]
                names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                missing |= names | {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
                for name in names:
                    namespace.pop(name, None)
        plt.close("all")
    return screens


def unfounded(notebook, monkeypatch, empty):
    """Complaints about the stored outputs of a chapter that do not follow from the records."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    again = screens_of(cells, monkeypatch)
    with monkeypatch.context() as patched:
        patched.setenv("ALIBI_RESULTS", str(empty))
        without = screens_of(cells, monkeypatch)
    complaints = []
    for place, cell in enumerate(cells):
        words, html = told(cell.outputs)
        if place not in again:
            if numbers := measured_numbers(html):
                complaints.append(f"{cell.id}: {numbers} are no records but a live run's")
        elif again[place].words != words:
            pairs = zip([*again[place].words, "nothing"], [*words, "nothing"], strict=False)
            now, before = next(pair for pair in pairs if pair[0] != pair[1])
            complaints.append(f"{cell.id}: stored is {before!r} where the records give {now!r}: make notebooks")
        if place in without and (numbers := measured_numbers(without[place].html)):
            complaints.append(f"{cell.id}: {numbers} are shown as measured without any record")
    return complaints


@pytest.fixture(autouse=True)
def _records_of_the_repository(monkeypatch):
    monkeypatch.delenv("ALIBI_RESULTS", raising=False)


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_measured_number_of_a_chapter_has_its_record(chapter, monkeypatch, tmp_path):
    notebook = nbformat.read(chapter, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if shows_records(code):
        assert unfounded(notebook, monkeypatch, tmp_path) == []
    else:
        assert [number for cell in code for number in measured_numbers(told(cell.outputs)[1])] == []


SMALL = (
    "from alibi.book import plots, results, tables\nfrom alibi.records import paper_results",
    "paper, ours = paper_results(), results.results('wikitext103')",
    "noise = 'no part of it'",
    "results.beside(paper[paper.source == 'Table 2'], ours, 'Table 2: ours beside')",
    "print('measured:', results.described(ours))",
)


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        ("from alibi.book import plots, results", True),
        ("from alibi.book.results import verdicts", True),
        ("from alibi.records import measured_results as ours", True),
        ("from alibi.reproduction import claims", True),
        ("from alibi.records import paper_results\nresults = paper_results()", False),
    ],
)
def test_a_chapter_that_shows_records_is_known_by_its_imports(source, shows):
    assert shows_records([new_code_cell(source)]) is shows


def small(*sources):
    cells = [new_code_cell(source, id=f"cell-{place}") for place, source in enumerate(sources)]
    return new_notebook(cells=cells)


def with_outputs(notebook):
    """The notebook as it is stored: its last cells' outputs are what they give now."""
    namespace = {}
    for cell in notebook.cells:
        screen = Screen()
        screen.run(cell.source, namespace)
        if screen.html:
            cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": screen.html})]
        elif screen.words:
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=" ".join(screen.words))]
    return notebook


def test_a_number_that_the_records_give_passes_and_another_does_not(folder, monkeypatch):
    (folder / "none").mkdir()
    monkeypatch.setenv("ALIBI_RESULTS", str(folder / "results"))
    append("wikitext103", frame(record(100), record(97, window=128)))
    notebook = with_outputs(small(*SMALL))
    assert measured_numbers(notebook.cells[3].outputs[0].data["text/html"]) == ["100.00", "1.000", "97.00", "0.970"]
    assert unfounded(notebook, monkeypatch, folder / "none") == []
    table = notebook.cells[3].outputs[0].data
    table["text/html"] = table["text/html"].replace("97.00", "96.00")
    (complaint,) = unfounded(notebook, monkeypatch, folder / "none")
    assert complaint.startswith("cell-3: stored is '96.00' where the records give '97.00'")


def test_a_caption_that_the_records_no_longer_give_is_found(folder, monkeypatch):
    (folder / "none").mkdir()
    monkeypatch.setenv("ALIBI_RESULTS", str(folder / "results"))
    append("wikitext103", frame(record(100)))
    notebook = with_outputs(small(*SMALL))
    append("wikitext103", frame(record(101, seed=1)))
    complaints = unfounded(notebook, monkeypatch, folder / "none")
    assert [complaint.split(":")[0] for complaint in complaints] == ["cell-3", "cell-4"]


def test_a_number_without_a_record_is_found_though_the_cell_repeats_it(folder, monkeypatch):
    (folder / "none").mkdir()
    made_up = "from alibi.book import plots, tables\nimport pandas as pd"
    table = "tables.styled(pd.DataFrame({'measured': ['18.40']}), 'Table: x')"
    (complaint,) = unfounded(with_outputs(small(made_up, table)), monkeypatch, folder / "none")
    assert complaint == "cell-1: ['18.40'] are shown as measured without any record"


def test_a_live_run_does_not_pass_for_a_record(folder, monkeypatch):
    (folder / "none").mkdir()
    sources = ("from alibi import runs", "run = runs.trained('alibi')", "run  # measured")
    notebook = small(*sources)
    html = (
        "<table><thead><tr><th></th><th>measured</th></tr></thead><tbody><tr><th>1</th><td>9</td></tr></tbody></table>"
    )
    notebook.cells[2].outputs = [nbformat.v4.new_output("display_data", {"text/html": html})]
    (complaint,) = unfounded(notebook, monkeypatch, folder / "none")
    assert complaint == "cell-2: ['9'] are no records but a live run's"


def test_recorded_models_against_themselves_stand_by_stretch_and_without_the_whole():
    stretches = [(1, 64), (65, 128), (129, 512), (65, 512)]
    rows = [
        record(value * way + seed, method, window=512, seed=seed, metric=metric, protocol="against_itself")
        | {"first_position": first, "last_position": last}
        for method, way in (("alibi", -1), ("sinusoidal", 1))
        for seed in (0, 2)
        for (first, last), nats in zip(stretches, (0, 1, 3, 9), strict=True)
        for metric, value in (("loss_against_itself", nats), ("loss_against_itself_standard_error", 0.5))
    ]
    _, ax = plt.subplots()
    plots.recorded_against_itself(frame(*rows), ax)
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    # The mean of two seeds is one above each value; up to L all is zero.
    assert lines["Sinusoidal"] == [[0, 0], [64, 0], [96.5, 2], [320.5, 4]]
    assert lines["ALiBi"] == [[0, 0], [64, 0], [96.5, 0], [320.5, -2]]
    assert lines["training length L"][0][0] == 64
    plt.close("all")


def test_a_shared_legend_names_the_methods_that_are_drawn():
    records = frame(*(record(20 - place, "alibi", window=64 * 2**place, length=64) for place in range(3)))
    figure = plots.figure_6({"Ours": results.relative(records)})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ALiBi", "training length L"]
    plt.close("all")


def test_records_in_the_repository_are_whole():
    found = measured_results()
    assert list(found.columns) == MEASURED_COLUMNS
    for path in sorted((ROOT / "data" / "results").glob("*.csv")):
        rows = measured_results(path.stem)
        assert set(rows.source) == {path.stem}
        needed = ["metric", "method", "scale", "device", "torch_version", "commit", "date"]
        assert rows[needed].notna().all().all(), path.name
        assert (rows.value.notna() | rows.note.notna()).all(), path.name
        assert not rows.smoke.any(), path.name
        assert rows.kernel[rows.metric.isin(["train_speed", "attention_time"])].notna().all(), path.name


def test_what_a_longer_window_adds_to_a_models_loss():
    # Two articles with two tokens in each stretch of two positions; L is 4, the window 12.
    nats_PA = np.array([[0, 0], [0, 0], [0.1, 0.3], [0.1, 0.3], [0.5, 0.5], [0.7, 0.7]])
    looks = {"length": 4, "window": 12, "stride": 2, "tokens": np.full((6, 2), 2)}
    found = {method: AgainstItself(nats=nats_PA * way, **looks) for method, way in (("t5", 2), ("alibi", -0.02))}
    shown = tables.against_itself(found).data
    assert shown.loc["T5 bias"].tolist() == ["+0.200 ± 0.200", "+0.600 ± 0.000"]
    assert shown.loc["ALiBi"].tolist() == ["-0.002 ± 0.002", "-0.006 ± 0.000"]
    assert shown.columns.tolist() == ["from L to 2 L", "the last L tokens"]
