"""Parameters of the chapters are taken or refused by one table."""

import pytest

from alibi.book.parameters import PARAMETERS, ParameterError, check, check_text, parse


@pytest.mark.parametrize(
    "values",
    [
        {"scale": "quick", "corpus": "wikipedia-sample"},
        {"corpus": "wikipedia-sample, first 100000 words, vocabulary 4096"},
        {"train_length": 16, "steps": 0, "seed": 0, "heads": 1, "stride": 0, "evaluation_length": 3072},
        {"train_length": 4096, "steps": 1_000_000, "seed": 2**31 - 1, "heads": 128, "stride": 4096},
        {"evaluation_length": 65536},
        {},
    ],
)
def test_bounds_themselves_are_allowed(values):
    check(**values)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("train_length", 12, "from 16 to 4096"),
        ("train_length", 4100, "from 16 to 4096"),
        # The short windows of a comparison with itself would not overlap.
        ("train_length", 65, "a multiple of 4"),
        ("train_length", 64.0, "a multiple of 4"),
        ("train_length", "64", "a multiple of 4"),
        ("steps", -1, "from 0 to 1000000"),
        ("steps", True, "a whole number"),
        ("steps", None, "a whole number"),
        ("seed", 2**31, "from 0 to 2147483647"),
        ("heads", 0, "from 1 to 128"),
        ("stride", -1, "from 0 to 4096"),
        ("evaluation_length", 65537, "from 3072 to 65536"),
        ("evaluation_length", 512, "from 3072 to 65536"),
        ("scale", "paper-ish", "one of quick, laptop, gpu"),
        ("scale", ["quick"], "one of quick, laptop, gpu"),
        ("corpus", "wikipedias", "wikipedia-sample"),
        ("corpus", "wikipedia-sample, first 0 words", "wikipedia-sample"),
    ],
)
def test_refusal_names_parameter_value_and_what_is_allowed(name, value, told):
    with pytest.raises(ParameterError) as refused:
        check(**{name: value})
    for part in (name, repr(value), told, PARAMETERS[name].meaning):
        assert part in str(refused.value)


def test_one_wrong_value_among_right_ones_is_refused():
    with pytest.raises(ParameterError, match="seed = -1"):
        check(train_length=64, seed=-1)


def test_a_length_beyond_a_batch_of_the_scale_is_refused():
    check(scale="quick", train_length=2048)
    with pytest.raises(ParameterError, match=r"train_length = 3000 must be at most 2048, .* a batch at scale quick"):
        check(scale="quick", train_length=3000)


def test_a_text_shorter_than_the_windows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    for split in ("train", "valid"):
        (tmp_path / "tiny" / f"{split}.txt").write_text("one two three four\n" * 20)
    check_text("tiny", 12, windows=8)
    with pytest.raises(ParameterError, match=r"'tiny' has 100 tokens .* windows of 8 train_length = 128: choose a"):
        check_text("tiny", 16, windows=8)


@pytest.mark.parametrize("refuse", [lambda: check(step=5), lambda: parse("step", "5")])
def test_unknown_name_lists_the_known(refuse):
    with pytest.raises(ParameterError, match=r"'step'.*scale, corpus, train_length.*steps"):
        refuse()


@pytest.mark.parametrize(("name", "text", "value"), [("steps", "50", 50), ("seed", "007", 7), ("scale", "gpu", "gpu")])
def test_text_is_read_as_the_parameter_s_type(name, text, value):
    parsed = parse(name, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text"), [("steps", "many"), ("steps", ""), ("steps", "5.0"), ("heads", "129"), ("scale", "Quick")]
)
def test_text_that_means_no_allowed_value_is_refused(name, text):
    with pytest.raises(ParameterError, match=name):
        parse(name, text)


def test_a_chapter_takes_only_text_to_train_and_to_evaluate_on(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.txt").write_text("a\n")
    refused = r"corpus = 'mine' must be one of .* \(text with a training and a validation split"
    with pytest.raises(ParameterError, match=refused):
        check(corpus="mine")
    (tmp_path / "mine" / "dev.txt").write_text("a\n")
    check(corpus="mine")
