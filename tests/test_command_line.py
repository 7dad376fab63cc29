"""The command line as a user types it."""

import errno
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT
from file_systems import read_only

from alibi.__main__ import COMMANDS, main
from alibi.configuration import TrainingError
from alibi.corpora import cache
from alibi.corpora.corpus import KNOWN
from alibi.corpora.source import CorpusError
from alibi.corpora.vocabulary import VOCABULARIES
from alibi.reproduction.experiments import TABLES
from alibi.scale import SCALES
from alibi.speed.benchmark import PARTS

pytestmark = pytest.mark.slow


def alibi(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "alibi", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=os.environ | environment,
    )  # fmt: skip


SMALL = ["train", "--method", "alibi", "--corpus", "small", "--train-length", 32, "--steps", 3, "--out"]


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """The folder of a run on a small text, what its command printed, and the environment with the text."""
    folder = tmp_path_factory.mktemp("command")
    environment = {"ALIBI_DATA": str(folder), "ALIBI_CACHE": str(folder / "cache")}
    (folder / "small").mkdir()
    for split in ("train", "valid"):
        (folder / "small" / f"{split}.txt").write_text((ROOT / "README.md").read_text("utf-8"), "utf-8")
    done = alibi(*SMALL, folder / "run", cwd=folder, **environment)
    assert done.returncode == 0, done.stderr
    return folder / "run", done, environment


def test_train_writes_what_it_says(trained_run):
    folder, done, _ = trained_run
    files = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    assert files == ["config.json", "metrics.jsonl", "model.safetensors"]
    assert re.search(r"perplexity \d+\.\d\d per token, \d+\.\d\d per word, \d\.\d{4} bits per byte", done.stdout)
    assert "tokens/s" in done.stderr and "loss=" in done.stderr
    assert json.loads((folder / "config.json").read_text())["train_length"] == 32


def test_train_again_finds_the_run_and_refuses_another(trained_run):
    folder, done, environment = trained_run
    again = alibi(*SMALL, folder, cwd=folder.parent, **environment)
    assert again.returncode == 0 and again.stdout == done.stdout
    other = alibi(*SMALL, folder, "--seed", 5, cwd=folder.parent, **environment)
    assert other.returncode == 1 and "seed is 1, asked for 5" in other.stderr


def test_evaluate_prints_a_row_a_length(trained_run):
    folder, _, environment = trained_run
    done = alibi("evaluate", folder, "--lengths", 64, 128, "--stride", 64, cwd=folder.parent, **environment)
    assert done.returncode == 0, done.stderr
    assert [int(line.split()[0]) for line in done.stdout.splitlines()[2:]] == [64, 128]


def test_evaluate_takes_the_usual_lengths_that_fit_the_stride(trained_run, monkeypatch, capsys):
    folder, _, environment = trained_run
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["alibi", "evaluate", str(folder), "--stride", "512"])
    main()
    assert [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()[2:]] == [16 * 32]
    beyond = "stride=513 is beyond 512, the longest window that is read without --lengths: name longer ones there"
    outside = "the stride must lie between 1 and the length"
    for wrong, message in (("513", beyond), ("0", outside), ("32 --lengths 64 16", outside)):
        monkeypatch.setattr("sys.argv", ["alibi", "evaluate", str(folder), "--stride", *wrong.split()])
        with pytest.raises(SystemExit, match="2"):
            main()
        told = capsys.readouterr()
        assert message in told.err and not told.out


def test_generate_continues_a_prompt(trained_run):
    folder, _, environment = trained_run
    command = "generate", folder, "The city of", "--tokens", 40
    done, again = (alibi(*command, cwd=folder.parent, **environment) for _ in range(2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The city of") and len(done.stdout) > 20
    assert done.stdout == again.stdout


def test_data_shows_the_corpus(tmp_path):
    done = alibi("data", "wikipedia-sample", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("train", "valid", "test", "CC BY-SA", "4,096", "early in the alphabet"):
        assert word in done.stdout


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Types a command in this process: its status, stdout and stderr. The home folder, ~, is a new one with texts."""
    characters = random.Random(0)
    spaceless = ["".join(chr(0x4E00 + characters.randrange(500)) for _ in range(300)) for _ in range(60)]
    texts = {
        "spaceless": {"train": spaceless, "valid": spaceless[:5]},
        "blank": {"valid": [""] * 9},
        "training": {"train": ["a b c"] * 700},
        "held": {"train": ["a b c"], "test": ["a b"]},
    }
    for name, splits in texts.items():
        (tmp_path / "texts" / name).mkdir(parents=True)
        for split, lines in splits.items():
            text = "".join(f"{line}\n" for line in lines)
            (tmp_path / "texts" / name / f"{split}.txt").write_text(text, encoding="utf-8")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("ALIBI_DATA", "~/texts")
    monkeypatch.setenv("ALIBI_CACHE", "~/cache")

    def command(line):
        monkeypatch.setattr(sys, "argv", ["alibi", *line.split()])
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return command


TRAIN = "train --method alibi --steps 1 --train-length 16 --out=~/runs/first --corpus"


def test_text_without_spaces_or_words_is_trained_and_evaluated_on(typed, tmp_path):
    status, out, _ = typed(f"{TRAIN} spaceless")
    assert status == 0 and re.search(r"perplexity [\d.]+ per token, inf per word, \d+\.\d{4} bits per byte\n", out)
    told = "spaceless valid: perplexity per word is more than a float holds, at 901 bytes a word"
    assert out.splitlines()[2:] == [told]
    status, out, _ = typed("evaluate ~/runs/first --lengths 16 32 --split validation")
    assert status == 0 and [line.split()[2] for line in out.splitlines()[2:4]] == ["inf", "inf"]
    assert out.splitlines()[4:] == [
        "spaceless valid: perplexity per word is more than a float holds, at 901 bytes a word"
    ]
    status, out, _ = typed("evaluate ~/runs/first --lengths 16 100000 --eval-corpus held --split test")
    assert status == 0 and out.splitlines()[0].endswith("; held test, nonoverlapping")
    assert out.splitlines()[4:] == ["held test: it has 4 tokens, so no window of 16, 100,000 is full"]
    status, _, err = typed("evaluate ~/runs/first --eval-corpus=")
    assert status == 2 and "unknown corpus ''" in err
    status, out, _ = typed("evaluate ~/runs/first --lengths 16 --eval-corpus blank")
    assert status == 0 and out.splitlines()[2].split()[2] == "-"
    assert out.splitlines()[3:] == [
        "blank valid: it has 9 tokens, so no window of 16 is full",
        "blank valid: the text has no words, so there is no perplexity per word",
    ]
    assert not (tmp_path / "~").exists()


def test_a_learned_table_is_evaluated_up_to_its_end(typed):
    assert typed(f"{TRAIN} spaceless".replace("alibi --steps", "learned --steps"))[0] == 0
    status, out, err = typed("evaluate ~/runs/first")
    assert status == 0 and not err and [line.split()[0] for line in out.splitlines()[2:4]] == ["8", "16"]
    assert "spaceless valid: method learned can't read windows of 20, 32, 64, 128, 256" in out.splitlines()
    status, out, err = typed("evaluate ~/runs/first --lengths 8 17")
    assert status == 2 and not out and "the learned table ends at 15" in err


def test_without_a_validation_split_a_run_is_trained_and_not_evaluated(typed, tmp_path):
    status, out, err = typed(f"{TRAIN} training")
    assert status == 0 and (tmp_path / "runs" / "first" / "config.json").is_file()
    assert out.endswith("first: alibi trained at 16 on training, not evaluated: it has no split 'valid'\n")
    assert err.startswith("training (from ") and "has no split 'valid': the run is not evaluated" in err.splitlines()[0]


def test_a_run_in_a_chosen_tokenisation_does_not_need_the_corpus_in_its_own(typed, tmp_path, monkeypatch):
    def fetch():
        raise CorpusError("BERT's vocabulary is not here")

    monkeypatch.setitem(cache.FETCHED, "bert", fetch)
    for split in ("train", "valid"):
        (tmp_path / "texts" / "bookcorpus").mkdir(exist_ok=True)
        (tmp_path / "texts" / "bookcorpus" / f"{split}.txt").write_text("a b c\n" * 700)
    status, _, err = typed(f"{TRAIN} bookcorpus --tokenisation bytes")
    assert status == 0, err
    status, out, err = typed("evaluate ~/runs/first --lengths 16")
    assert status == 0 and int(out.splitlines()[2].split()[0]) == 16, err
    status, out, err = typed("generate ~/runs/first a --tokens 3")
    assert status == 0 and out.startswith("a"), err
    # The corpus's own tokenisation may have been chosen too, and is then the only copy.
    assert typed(f"{TRAIN.replace('first', 'own')} spaceless --tokenisation bytes")[0] == 0
    assert typed("evaluate ~/runs/own --lengths 16")[0] == 0
    assert sorted(path.name for path in (tmp_path / "cache" / "corpora").glob("[bs]*")) == [
        "bookcorpus-bytes",
        "spaceless-bytes",
    ]


def test_what_can_not_be_evaluated_on_is_refused_before_training(typed, tmp_path):
    status, _, err = typed(f"{TRAIN} spaceless --eval-corpus held")
    assert status == 2 and re.search(r"held \(from .*held\) has no split 'valid'; it has train, test\n$", err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--method rotari", "unknown position method 'rotari'; choose from sinusoidal"),
        ("--method alibi --device tpu", "unknown device 'tpu'; choose from cpu"),
        ("--method alibi --kernel fast", "unknown attention kernel 'fast'"),
        ("--method t5 --decay-window 12", "decay_window=12.0: only "),
        ("--method alibi --train-length 4096", "train_length=4096: choose 1 to 2048"),
        ("--method alibi --tokens-at-once 100", "tokens_at_once=100: a pass takes at least one block; choose 128"),
        ("--method t5 --scale paper --method-rate 3", "method_rate=3.0: scale paper has the paper's recipe, with one"),
        ("--method alibi --method-rate 3", "method_rate=3.0: alibi has no parameters of its own; leave it out"),
    ],
)
def test_a_misspelt_choice_is_refused_before_the_corpus_is_looked_for(typed, option, message):
    for more in ("", " --dry-run"):
        status, _, err = typed(f"train --corpus not-there --out ~/runs/first {option}{more}")
        assert status == 2 and message in err and "not-there" not in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate ~/run", r"{home}/run holds no finished run"),
        ("generate ~/run word", r"{home}/run holds no finished run"),
        ("verify ~/vectors", r"{home}/vectors is not a folder"),
        ("evaluate ~nobody-of-this-name/run", r"no home folder is known for '~nobody-of-this-name/run'"),
        ("evaluate run --split tets", r"unknown split 'tets'; choose from train, valid, test"),
    ],
)
def test_every_path_may_begin_at_home(typed, tmp_path, line, message):
    status, _, err = typed(line)
    assert status in (1, 2) and message.format(home=tmp_path) in err


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("arguments", [["data", "wikipedia-sample"], ["scorecard"], ["--help"]])
def test_a_console_that_is_not_utf_8_shows_what_it_can(arguments, encoding, monkeypatch, capsys):
    def printed(encoding):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        with suppress(SystemExit):
            main()
        sys.stdout.flush()
        return raw.getvalue().decode(encoding).splitlines()

    monkeypatch.setattr("sys.argv", ["alibi", *arguments])
    shown, whole = printed(encoding), printed("utf-8")
    assert len(shown) >= len(whole) > 10 and not capsys.readouterr().err
    if arguments[0] == "data":
        assert [re.sub("[^ -~]", "?", line) for line in whole] == [re.sub("[^ -~]", "?", line) for line in shown]


def test_an_output_that_is_a_link_to_nothing_is_refused_before_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "x.json").symlink_to(tmp_path / "gone" / "x.json")
    for command in ("bench", "scorecard"):
        monkeypatch.setattr(sys, "argv", ["alibi", command, "--json", str(tmp_path / "x.json")])
        with pytest.raises(SystemExit, match="2"):
            main()
        told = capsys.readouterr()
        assert told.err.endswith(f"x.json can't be written: {tmp_path / 'gone'} is not a folder\n") and not told.out


@pytest.mark.skipif(os.name != "posix", reason="streams are closed by a shell")
def test_without_any_stream_a_run_is_trained(tmp_path):
    command = [sys.executable, Path(__file__).with_name("small_run.py"), tmp_path / "run", '{"steps": 1}']
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "run" / "config.json").is_file()


def test_a_reader_that_has_gone_ends_the_command_without_a_word(tmp_path):
    command = [sys.executable, "-m", "alibi", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device here is always full")
def test_a_full_disk_under_stdout_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "alibi", "data", "wikipedia-sample"]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path)
    assert (process.returncode, process.stderr) == (
        1,
        b"python -m alibi: stdout can't be written: " + os.strerror(errno.ENOSPC).encode() + b"\n",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_in_one_line(number, monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "data", lambda: signal.raise_signal(number))
    monkeypatch.setattr("sys.argv", ["alibi", "data"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 128 + number and capsys.readouterr().err == f"python -m alibi: ended by {number.name}\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_schedulers_signal_while_a_run_is_prepared_asks_for_another_try(number, status, tmp_path, monkeypatch):
    # The text is read before the training, whose own answer to a signal other tests provoke.
    monkeypatch.setattr("alibi.configuration.corpus_of", lambda run: signal.raise_signal(number))
    monkeypatch.setattr("sys.argv", ["alibi", "train", "--method", "alibi", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status


def test_a_wrong_folder_of_results_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["alibi", "scorecard"])
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "none"))
    main()
    assert capsys.readouterr().err == f"warning: there is no folder {tmp_path / 'none'}, so no claim has records\n"
    (tmp_path / "file").touch()
    monkeypatch.setenv("ALIBI_RESULTS", str(tmp_path / "file"))
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"ALIBI_RESULTS is {tmp_path / 'file'}, a file: name a folder" in capsys.readouterr().err


def test_a_folder_that_can_not_be_written_is_told_in_one_line(typed, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("ALIBI_RESULTS", str(folder))
    with read_only(folder):
        status, _, err = typed(f"records merge {ROOT / 'data' / 'results' / 'bookcorpus.csv'}")
    assert status == 1 and len(err.splitlines()) == 1 and str(folder) in err and "can't be" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data", "wikipedias"], "wikipedia-sample"),
        (["train", "--method", "alibbi", "--out", "x"], "choose from sinusoidal, rotary, t5, alibi"),
        (["train", "--method", "alibi", "--scale", "huge", "--out", "x"], "choose from quick, laptop, gpu, paper"),
        (["train", "--method", "alibi", "--corpus", "pile", "--out", "x"], "wikipedia-sample"),
        (["train", "--method", "alibi", "--train-length", "99999", "--out", "x"], "train_length=99999"),
        (["train", "--method", "alibi", "--keep", "0", "--out", "x"], "alibi: keep=0: choose a number of at least 1\n"),
        (["evaluate", "x" * 300], "can't be used: File name too long"),
        (["train", "--method", "alibi"], "--out is missing: name the folder"),
        (["train", "--method", "alibi", "--out", ""], "the path out is empty: name a folder"),
        (["train", "--method", "alibi", "--out="], "the path out is empty: name a folder"),
        (["verify", "nowhere"], "nowhere is not a folder: name one of official vectors"),
        (["book", "alibi", "--refresh"], "--refresh is for the whole book: leave out the chapter alibi"),
        (["train", "--method", "alibi", "--gpus", "8", "--out", "x"], "gpus=8 is only for --dry-run: torchrun"),
        (["train", "--method", "alibi", "--seed", str(2**63), "--out", "x"], "seeds from 0 to 2**63 - 1"),
        (["generate", "x", "a", "--seed", str(2**64)], "a seed of 64 bits"),
        (["generate", "x", "a", "--temperature", "nan"], "temperature=nan"),
        (["generate", "x", "a", "--tokens=-1"], "tokens=-1"),
        (["reproduce", "slopes", "--minutes", "nan"], "minutes=nan: choose a number of at least 0; 0 sets no limit"),
        (["reproduce", "slopes", "--minutes=-1"], "minutes=-1.0: choose a number of at least 0"),
        (["data", "wikipedia-sample", "--tokenisation", "a" * 10**6], "a'; choose from words, bytes, bert, gpt2\n"),
        (["book", "alibbi"], "alibi"),
        (["book", "alibi", "-p", "speed=3"], "speed"),
        (["book", "alibi", "-p", "steps=many"], "many"),
        (["book", "alibi", "-p", "train_length=3"], "16"),
        (["book", "-p", "steps=3"], "name the chapter"),
        (["book", "alibi", "--pdf"], "leave out the chapter"),
        (["book", "--refresh", "--pdf"], "leave out the chapter and --refresh"),
        (["bench", "--json", "missing/x.json"], "missing/x.json can't be written: missing is not a folder"),
        (["scorecard", "--json", "."], ". can't be written: Is a directory"),
        (["learn"], "train"),
    ],
)
def test_wrong_words_exit_with_2_and_say_what_is_right(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["alibi", *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 2 and told in err and len(err) < 2100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_of_every_command(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["alibi", *command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and "usage: python -m alibi" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("data", [*KNOWN, *VOCABULARIES]),
        ("train", [*SCALES, *VOCABULARIES]),
        ("reproduce", [*TABLES, *SCALES]),
        ("bench", PARTS),
    ],
)
def test_help_names_all_there_are_to_choose_from(command, names, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["alibi", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    printed = re.sub(r"[\s│]+", "", capsys.readouterr().out)
    assert [name for name in names if name not in printed] == []


def test_only_the_projects_own_errors_are_one_line(monkeypatch, capsys):
    def fails(error):
        def command():
            raise error

        monkeypatch.setitem(COMMANDS, "data", command)
        monkeypatch.setattr("sys.argv", ["alibi", "data"])
        main()

    with pytest.raises(SystemExit, match="1"):
        fails(TrainingError("the loss is no longer finite"))
    assert capsys.readouterr().err == "python -m alibi: the loss is no longer finite\n"
    for fault in (RuntimeError("a library's own"), ValueError("of a bug"), json.JSONDecodeError("cut", "{", 1)):
        with pytest.raises(type(fault), match=re.escape(str(fault))):
            fails(fault)
