"""Records of other machines: real ones are taken; a fault of any kind is named with its line, and none is written."""

import csv
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

from alibi.__main__ import main
from alibi.corpora.corpus import load
from alibi.device import kind_of
from alibi.records import MEASURED_COLUMNS, measured_results
from alibi.reproduction.choice import Choice, cells
from alibi.reproduction.control import ControlCell
from alibi.reproduction.experiments import (
    after_alibi,
    early_token_curse,
    learning_rates,
    noise_floor,
    reads_further,
    slopes,
    wikitext103,
)
from alibi.reproduction.merging import MergeError, merge
from alibi.reproduction.speed_cells import AttentionCell, SpeedCell
from alibi.run_cache import config_hash
from alibi.windows import scored_tokens, spread_windows

OURS = ROOT / "data" / "results"
CELLS = {cell.spec.method: cell for cell in early_token_curse.cells("quick", (7,))}


@pytest.fixture
def results(monkeypatch, tmp_path):
    """Our own records, to be added to."""
    shutil.copytree(OURS, tmp_path / "results")
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def send(results, tmp_path):
    """Writes rows into a file that is named after an experiment, and merges it."""

    def merged(rows, name="early_token_curse", columns=MEASURED_COLUMNS):
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([columns, *([row[column] for column in columns] for row in rows)])
        return merge([path])

    return merged


def rows_of(experiment, **chosen):
    with (OURS / f"{experiment}.csv").open(newline="") as file:
        rows = [dict.fromkeys(MEASURED_COLUMNS, "") | row for row in csv.DictReader(file)]
    return [row for row in rows if all(row[name] == value for name, value in chosen.items())]


@cache
def digits_of(method, seed, device, dtype, torch_version):
    """The configuration hash of the run of this method and seed there."""
    return hash_of(CELLS[method], seed, device, dtype, torch_version)


def hash_of(cell, seed, device, dtype, torch_version):
    spec = replace(cell.spec, seed=seed, device=kind_of(device), dtype=dtype)
    return config_hash(replace(replace(cell, spec=spec).config(), torch_version=torch_version), device)


def of_seed_7(**changes):
    """The records of seed 0 as a run of seed 7 on the same machine would have them; stride 1 is measured no more."""
    rows = [row for row in rows_of("early_token_curse", scale="quick", seed="0") if row["stride"] != "1"]
    where = ("device", "dtype", "torch_version")
    digits = [digits_of(row["method"], 7, *(row[name] for name in where)) for row in rows]
    return [row | {"seed": "7", "config_hash": own} | changes for row, own in zip(rows, digits, strict=True)]


def speeds_of(kind):
    """Records of the first cell of this kind of efficiency at scale quick, with made-up times of one machine."""
    cell = next(cell for cell in cells(Choice("efficiency", "quick")) if isinstance(cell, kind))
    loss = rows_of("efficiency", metric="loss", scale="quick")[0]
    machine = {name: loss[name] for name in ("provenance", "device", "torch_version", "dtype", "commit", "date")}
    given = machine | {"source": "efficiency", "value": "1.5", "kernel": "sdpa", "compiled": "False"}
    blank = dict.fromkeys(MEASURED_COLUMNS, "")
    return [blank | given | {name: str(value) for name, value in number.items()} for number in cell.numbers()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_strangers_records_are_appended_once(results, send):
    rows, before = of_seed_7(source=""), measured_results("early_token_curse")
    merged = send(rows)
    assert (merged.appended, merged.known, merged.kept_out) == (len(rows), 0, ())
    after = measured_results("early_token_curse")
    assert after.iloc[: len(before)].equals(before)
    added = after.iloc[len(before) :]
    assert set(added.source) == {"early_token_curse"} and set(added.seed) == {7}
    assert added.value.tolist() == [float(row["value"]) for row in rows]
    for cell in CELLS.values():
        sent = tuple(measure for measure in cell.measures if not measure.skip)
        assert replace(cell, measures=sent).recorded(after) and not cell.recorded(after)
    written = contents(results)
    assert (send(rows).known, contents(results)) == (len(rows), written)


def test_a_whole_folder_of_ours_changes_nothing(results):
    written = contents(results)
    merged = merge(sorted(OURS.glob("*.csv")))
    assert (merged.appended, merged.known) == (0, len(measured_results())) and contents(results) == written


# A row of perplexity at 256 tokens, nonoverlapping; and what of it is wrong.
FAULTS = [
    ("source", "wikitext", "unknown experiment: choose from wikitext103, bookcorpus"),
    ("scale", "huge", "choose from quick, laptop, gpu, paper"),
    ("page", "3", "leave it empty"),
    ("corpus", "bookcorpus", "no cell of early_token_curse at scale quick measures that; there is wikitext-103"),
    ("split", "test", "there is valid"),
    ("method", "rope", "there is alibi, sinusoidal, t5"),
    ("train_length", "64", "there is 128"),
    ("train_length", "128.0", "choose a whole number"),
    ("eval_length", "-5", "choose a whole number"),
    ("eval_length", "257", "there is 128, 256, 512, 1024"),
    ("stride", "3", "stride is 3: no cell of"),
    ("prefix", "4097", "there is 4096"),
    ("metric", "accuracy", "there is perplexity, word_perplexity"),
    ("unit", "nats", "there is nothing"),
    ("equal_time", "yes", "choose True or False"),
    ("equal_time", "True", "there is False"),
    ("seed", "1e3", "choose a whole number"),
    ("seed", str(2**64), "choose a whole number"),
    ("tokens_trained", "614401", "there is 614400"),
    ("paper_length", "128", "there is 1024"),
    ("value", "", "choose a finite number"),
    ("value", "nan", "choose a finite number"),
    ("value", "inf", "choose a finite number"),
    ("value", "many", "choose a number"),
    ("value", "0.99", "a perplexity is above 1"),
    ("value", "4096", "a perplexity is below the 4,096 entries of the vocabulary"),
    ("tokens_scored", "4095", "this evaluation scores 4,096"),
    ("tokens_scored", "", "this evaluation scores 4,096"),
    ("parameters", "1", "the model of that cell has 4207616"),
    ("model", "7.2M", "is called 4.2M"),
    ("config_hash", "0123456789ab", "the run had other settings, text or recipe"),
    ("config_hash", "12 digits", "12 hexadecimal digits"),
    ("corpus_used", "", "name the training text"),
    ("provenance", "printed", "choose measured"),
    ("smoke", "True", "the numbers of a smoke run mean nothing"),
    ("device", "", "name the one that measured"),
    ("torch_version", "", "name the one that measured"),
    ("dtype", "float16", "choose from bfloat16, float32"),
    ("commit", "", "the first 12 digits of the commit"),
    ("commit", "not a checkout", "the first 12 digits of the commit"),
    ("commit", "22848ad4b161+", "of an unchanged checkout"),
    ("date", "21.11.2026", "the day in UTC, such as 2026-11-21"),
    ("date", "2026-W48-4", "the day in UTC, such as 2026-11-21"),
    ("date", "2999-01-01", "not in the future"),
    ("seconds", "-5", "it is at least 0"),
    ("kernel", "banana", "choose from reference, baddbmm, sdpa"),
]


def a_row(**changes):
    (row, *_) = [
        row
        for row in of_seed_7()
        if (row["metric"], row["method"], row["eval_length"], row["stride"]) == ("perplexity", "alibi", "256", "")
    ]
    return row | changes


def test_each_kind_of_fault_is_told_with_its_place_and_what_is_right(results, send, tmp_path):
    right, written = a_row(), contents(results)
    # All in one file, a fault a line.
    rows = [right | {column: value} for column, value, _ in FAULTS]
    with pytest.raises(MergeError) as raised:
        send([right, *rows])
    first, *told = str(raised.value).split("\n")
    assert first == f"{len(told)} faults, and nothing was written:" and contents(results) == written
    path = tmp_path / "early_token_curse.csv"
    for line, (column, value, expected) in enumerate(FAULTS, start=3):
        own = [fault for fault in told if fault.startswith(f"{path}:{line}: ")]
        named = [fault for fault in own if fault.startswith(f"{path}:{line}: {column} is {value or 'empty'}")]
        quoted = [fault for fault in own if fault.startswith(f"{path}:{line}: {column} is {value!r}: ")]
        assert any(expected in fault for fault in named + quoted), (column, value, own)
    # A row that is right but for the experiment it is said to be of.
    with pytest.raises(MergeError, match=r":2: corpus is 'wikitext-103': no cell of bookcorpus .* there is bookcorpus"):
        send([right | {"source": "bookcorpus"}])
    assert send([right]).appended == 1


def test_the_nearest_number_is_what_a_loss_by_position_is_held_against(results, send):
    (row, *_) = [r for r in of_seed_7() if r["metric"] == "loss" and r["first_position"] == "5"]
    assert (row["last_position"], send([row]).appended) == ("8", 1)
    wrong = [("last_position", "9", "there is 8"), ("tokens_scored", "3", "this evaluation scores 1"),
             ("value", "-0.1", "it is above 0")]  # fmt: skip
    for column, value, expected in wrong:
        with pytest.raises(MergeError, match=expected):
            send([row | {"seed": "8", column: value}])


def test_what_a_number_leaves_empty_is_no_other_number(results, send):
    """A column that the cell does not name would make a second record of the same number."""
    with pytest.raises(MergeError, match=r"learning_rate is 0.0042: the run of that cell has 0.002"):
        send([a_row() | {"learning_rate": "0.0042"}])
    assert send([a_row()]).appended == 1
    for column, value in (("layer", "9"), ("seen", "3"), ("decay_window", "5.0"), ("distractors", "2")):
        with pytest.raises(MergeError, match=f"{column} is {value}: no cell of .* there is nothing"):
            send([a_row() | {column: value}])


def test_a_record_without_a_rate_is_the_same_number(results, send):
    """As in files that are older than the column."""
    assert send([a_row(learning_rate="0.002")]).appended == 1
    assert (send([a_row(learning_rate="")]).appended, send([a_row(learning_rate="0.002")]).appended) == (0, 0)
    with pytest.raises(MergeError, match="is recorded from the same device"):
        send([a_row(learning_rate="", value="100.5")])


def test_a_column_twice_is_named(send, tmp_path, results):
    path = tmp_path / "twice.csv"
    path.write_text(",".join([*MEASURED_COLUMNS, "seed"]) + "\n")
    with pytest.raises(MergeError, match="each once; this has seed more than once"):
        merge([path])


def test_a_file_that_is_no_table_of_records_is_refused(send, tmp_path, results):
    rows, written = [a_row()], contents(results)
    fewer = [name for name in MEASURED_COLUMNS if name not in ("commit", "seed")]
    with pytest.raises(MergeError, match=r"early_token_curse.csv:1: the header is .*; this lacks seed, commit$"):
        send(rows, columns=fewer)
    with pytest.raises(MergeError, match="has colour besides"):
        send([rows[0] | {"colour": "red"}], columns=[*MEASURED_COLUMNS, "colour"])
    with pytest.raises(MergeError, match=r":2: the row is empty: there is no record"):
        send([])
    path = tmp_path / "early_token_curse.csv"
    path.write_text(",".join(MEASURED_COLUMNS) + "\na,b,c\n")
    with pytest.raises(
        MergeError, match=rf":2: the row is 'a,b,c': 3 fields, and the header has {len(MEASURED_COLUMNS)}"
    ):
        merge([path])
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MergeError, match=r"can't be read: .*nothing was written"):
        merge([path])
    with pytest.raises(MergeError, match="can't be read"):
        merge([tmp_path / "absent.csv"])
    assert contents(results) == written


def test_numbers_on_full_windows_are_told_apart_by_the_tokens_they_score(results, send):
    full = {"skipped": "1024", "sample": "4096", "prefix": ""}
    tokens = len(load("wikipedia-sample").splits["valid"].tokens)
    counted = {"tokens_scored": str(scored_tokens(tokens, 1024, 4096).sum())}
    change = {"metric": "loss_change", "unit": "nats", "value": "-0.01"}
    itself = {"metric": "loss_against_itself", "unit": "nats", "value": "-0.01", "protocol": "against_itself",
              "stride": "16", "sample": "16384", "prefix": "", "first_position": "1", "last_position": "128",
              "eval_length": "1024"}  # fmt: skip
    rows = [a_row(), a_row() | full | counted, a_row() | full | counted | change]
    assert send(rows).appended == 3
    with pytest.raises(MergeError, match=rf"this evaluation scores {int(counted['tokens_scored']):,}"):
        send([rows[1] | {"value": "150.5", "tokens_scored": "4096"}])
    with pytest.raises(MergeError, match="there is 4096"):
        send([rows[1] | {"sample": "4097"}])
    assert send([a_row(source="wikitext103") | itself]).appended == 1


def test_a_text_that_has_no_such_number_is_a_fault_of_its_line(results, send, tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    (tmp_path / "onlytrain").mkdir()
    (tmp_path / "onlytrain" / "train.txt").write_text("a b c\n" * 300)
    full = {"skipped": "1024", "sample": "4096", "prefix": "", "tokens_scored": "4096"}
    with pytest.raises(MergeError, match=r":2: corpus_used is .*onlytrain.*no such number.*no split 'valid'"):
        send([a_row(corpus_used="wikipedia-sample -> onlytrain") | full])


def as_rows(cell, source, value, tokens):
    """The numbers of a cell of ALiBi as records of seed 7, with values that are made up."""
    written = [{n: "" if v is None else str(v) for n, v in number.items()} for number in cell.numbers()]
    base = a_row(source=source) | {"prefix": "", "stride": ""}
    return [base | row | {"value": value, "tokens_scored": tokens(row)} for row in written]


def test_a_slope_may_be_below_zero_and_counts_no_tokens(results, send):
    cell = next(cell for cell in slopes.cells("quick", (7,)) if cell.methods == ("alibi-learned",))
    recorded = rows_of("slopes", method="alibi-learned", metric="perplexity")[0]
    kept = "model", "provenance", "device", "torch_version", "dtype", "commit", "date", "parameters", "corpus_used"
    own = dict.fromkeys(MEASURED_COLUMNS, "") | {name: recorded[name] for name in kept}
    own["config_hash"] = hash_of(cell, 7, *(own[name] for name in ("device", "dtype", "torch_version")))
    numbers = [number for number in cell.numbers() if number["metric"] == "slope"]
    written = [{n: "" if v is None else str(v) for n, v in number.items()} for number in numbers]
    rows = [own | row | {"value": f"{0.02 - place / 100}"} for place, row in enumerate(written)]
    assert send(rows, "slopes").appended == len(rows) == 8
    # A seed has one set of slopes, whichever machines trained it.
    where = {"device": "Apple M2 (MPS)", "dtype": "float32", "torch_version": "2.11.0"}
    digits = {"config_hash": hash_of(cell, 7, *where.values())}
    merged = send([row | where | digits | {"value": "0.5"} for row in rows], "slopes")
    assert (merged.appended, len(merged.kept_out)) == (0, 8)
    with pytest.raises(MergeError, match="head is 9: no cell"):
        send([rows[0] | {"head": "9"}], "slopes")


def test_what_a_run_reads_is_checked_by_its_windows(results, send):
    cell, text = reads_further.cells("quick", (7,))[0], len(load("wikipedia-sample").splits["valid"].tokens)
    assert cell.spec.method == "alibi"
    whole, within = (len(spread_windows(text, length, n)) for length, n in ((2048, 8), (128, 128)))
    tokens = {"gradient": whole, "repeats": 5, "truncated_attention": 256 * whole, "truncated_window": 256 * whole}
    rows = as_rows(
        cell, "reads_further", "0.5",
        lambda row: str(16 * within if row["eval_length"] == "128" else tokens.get(row["protocol"], 256 * whole)),
    )  # fmt: skip
    assert send(rows, "reads_further").appended == len(rows) > 400
    assert cell.recorded(measured_results("reads_further"))
    (share,) = [row for row in rows if row["metric"] == "attention_past_length" and row["layer"] + row["head"] == "28"
                and row["eval_length"] == "2048"]  # fmt: skip
    (cut,) = [row for row in rows if row["metric"] == "loss_truncated_change" and row["seen"] == "16"
              and row["protocol"] == "truncated_window"]  # fmt: skip
    (seen_before,) = [row for row in rows if row["metric"] == "loss_repeated" and row["first_distance"] == "128"
                      and row["seen"] == "256"]  # fmt: skip
    hashes = {
        "seed": "8",
        "config_hash": digits_of("alibi", 8, *(cut[n] for n in ("device", "dtype", "torch_version"))),
    }
    for row, wrong, expected in (
        (share, {"value": "1.2"}, "a share is at most 1"),
        (share, {"value": "-0.2"}, "it is at least 0"),
        (share, {"head": "9"}, "there is 1, 2, 3"),
        (share, {"tokens_scored": "7"}, f"this measure has {256 * whole:,}"),
        (cut, {"seen": "17"}, "there is 16, 32"),
        (cut, {"stride": ""}, "measures that; there is"),
        (seen_before, {"tokens_scored": str(256 * whole + 1)}, f"at most {256 * whole:,}"),
        (seen_before, {"tokens_scored": "0"}, "this measure has at most"),
        (seen_before, {"last_distance": "256"}, "there is 255"),
    ):
        with pytest.raises(MergeError, match=expected):
            send([row | hashes | wrong], "reads_further")
    changed = [cut | hashes | {"value": "-0.1"}, share | hashes | {"value": "0"}]
    assert send(changed, "reads_further").appended == 2


def test_interpolation_is_part_of_what_a_number_is(results, send):
    cell, text = after_alibi.cells("quick", (7,))[0], len(load("wikipedia-sample").splits["valid"].tokens)
    rows = as_rows(cell, "after_alibi", "150", lambda row: str(text))
    assert {row["interpolation"] for row in rows} == {"", "pi", "ntk"}
    assert send(rows, "after_alibi").appended == len(rows)
    with pytest.raises(
        MergeError, match=r"interpolation is 'yarn': no cell of after_alibi .* there is (nothing, )?pi, ntk"
    ):
        send([rows[-1] | {"interpolation": "yarn"}], "after_alibi")


def test_seeds_dtypes_and_rates_that_an_experiment_chooses_tell_its_runs_apart(results, send):
    text = str(len(load("wikipedia-sample").splits["valid"].tokens))

    def rows_at(experiment, method):
        """A row of each cell of seed 7, trained on one machine."""
        rows, parameters = [], {"alibi": {}, "t5": {"parameters": "4207872", "model": "4.2M"}}
        for cell in experiment.cells("quick", (7,)):
            numbers = as_rows(cell, experiment.__name__.rpartition(".")[2], "150", lambda row: text)
            found = [row for row in numbers if row["eval_length"] == "128" and row["metric"] == "perplexity"]
            if cell.spec.method == method:
                where = found[0]["device"], found[0]["dtype"], found[0]["torch_version"]
                digits = {"config_hash": hash_of(cell, cell.spec.seed, *where)}
                rows.append(found[0] | digits | parameters[method])
        return rows

    floor, rates = rows_at(noise_floor, "alibi"), rows_at(learning_rates, "t5")
    assert [(row["seed"], row["data_seed"], row["dtype"]) for row in floor] == [
        ("7", "", "bfloat16"), ("7", "1007", "bfloat16"), ("1007", "7", "bfloat16"), ("1007", "", "bfloat16"),
        ("7", "", "float32"),
    ]  # fmt: skip
    assert [row["method_rate"] for row in rates] == ["", "", "", "1.0", "3.0", "10.0", "30.0"]
    for name, rows in (("noise_floor", floor), ("learning_rates", rates)):
        assert send(rows[::-1], name).appended == send(rows, name).known == len(rows)


def test_the_control_has_no_configuration_and_no_windows(results, send):
    (control,) = [cell for cell in wikitext103.cells("quick", (7,)) if isinstance(cell, ControlCell)]
    text = len(load("wikipedia-sample").splits["valid"].tokens)
    of_machine = {name: a_row()[name] for name in ("device", "torch_version", "commit", "date")}
    base = dict.fromkeys(MEASURED_COLUMNS, "") | of_machine | {"provenance": "measured", "smoke": "False"}
    rows = []
    for number in control.numbers():
        scored = scored_tokens(text, number["skipped"] or 0, number["sample"]).sum()
        found = {"dtype": "float64", "model": "trigram", "value": "200", "tokens_scored": str(scored)}
        found["corpus_used"] = "wikipedia-sample"
        rows.append(base | {n: "" if v is None else str(v) for n, v in number.items()} | found)
    assert send(rows, "wikitext103").appended == len(rows) == 2 * 10
    assert control.recorded(measured_results("wikitext103"))
    elsewhere = {"device": "another", "corpus_used": "a text that is not here"}
    assert send([row | elsewhere for row in rows], "wikitext103").appended == len(rows)
    with pytest.raises(MergeError, match="corpus_used is empty: name the training text"):
        send([rows[0] | {"corpus_used": ""}], "wikitext103")
    with pytest.raises(MergeError, match="choose from float64"):
        send([rows[0] | {"value": "201", "dtype": "bfloat16", "device": "another"}], "wikitext103")
    with pytest.raises(MergeError, match=f"this evaluation scores {rows[-1]['tokens_scored'][:1]}"):
        send([rows[-1] | {"value": "201", "tokens_scored": "9", "device": "another"}], "wikitext103")


@pytest.mark.parametrize("where", [{}, {"device": "Apple M2 (MPS)", "dtype": "float32"}])
def test_an_empty_value_before_the_same_number_is_a_fault(results, send, where):
    written = contents(results)
    with pytest.raises(MergeError, match=r"early_token_curse.csv:2: value is empty: choose a finite number"):
        send([a_row(value=""), a_row() | where])
    assert contents(results) == written


def test_a_seed_is_recorded_once(results, send):
    row = a_row()
    assert send([row, row]).appended == 1
    written = contents(results)
    # The same machine can't have measured two values; another one is a check of the first, and stays out.
    with pytest.raises(MergeError, match=rf":2: value is 150.5: {float(row['value']):.7g} is recorded from the same"):
        send([row | {"value": "150.5"}])
    elsewhere = {"device": "Apple M2 (MPS)", "dtype": "float32", "torch_version": "2.11.0", "value": "150.5"}
    of_seed = {seed: digits_of("alibi", seed, "Apple M2 (MPS)", "float32", "2.11.0") for seed in (7, 8)}
    merged = send([row | elsewhere | {"config_hash": of_seed[7]}])
    (told,) = merged.kept_out
    assert merged.appended == 0 and "150.5 on Apple M2 (MPS) in float32" in told and row["value"] in told
    assert contents(results) == written
    assert send([row | elsewhere | {"seed": "8", "config_hash": of_seed[8]}]).appended == 1


def test_speeds_belong_to_their_machine(results, send):
    rows = [*speeds_of(SpeedCell), *speeds_of(AttentionCell)]
    assert send(rows, "efficiency").appended == len(rows) > 10
    assert send(rows, "efficiency").known == len(rows)
    others = [row | {"device": "Apple M2 (CPU)", "dtype": "float32"} for row in rows]
    assert send(others, "efficiency").appended == len(rows)
    for wrong, expected in (({"value": "0"}, "it is above 0"), ({"unit": "words/s"}, "there is tokens/s, GB|tokens/s")):
        with pytest.raises(MergeError, match=expected):
            send([others[0] | {"device": "another (CPU)"} | wrong], "efficiency")


def test_a_fault_in_one_file_keeps_all_out(results, tmp_path):
    written, paths = contents(results), []
    for name, rows in (("one", [a_row()]), ("two", [a_row(seed="9")])):
        paths.append(tmp_path / f"{name}.csv")
        with paths[-1].open("w", newline="") as file:
            writer = csv.DictWriter(file, MEASURED_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    # Another seed has another hash.
    with pytest.raises(MergeError, match=r"^1 faults, and nothing was written:\n.*two.csv:2: config_hash is"):
        merge(paths)
    assert contents(results) == written


def test_the_command_tells_what_became_of_the_records(results, tmp_path, monkeypatch, capsys):
    path = Path(shutil.copy(OURS / "slopes.csv", tmp_path / "mine.csv"))
    monkeypatch.setattr("sys.argv", ["alibi", "records", "merge", str(path)])
    main()
    assert capsys.readouterr().out == f"0 records appended, {len(measured_results('slopes')):,} were there\n"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, MEASURED_COLUMNS)
        writer.writeheader()
        writer.writerow(a_row(source="slope"))
    with pytest.raises(SystemExit, match="1"):
        main()
    told = capsys.readouterr()
    assert not told.out and f"{path}:2: source is 'slope': unknown experiment" in told.err
