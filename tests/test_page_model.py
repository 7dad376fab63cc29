"""The models in the page compute what torch does on the same rounded weights, and read the tokens that Python reads."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT, page_models
from forked import HANGS_AFTER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from javascript import files_of, in_browser, in_node

from alibi.book import page_model
from alibi.book.page_model import METHODS, model_script, rounded, vocabulary_script
from alibi.corpora.corpus import load
from alibi.errors import InputError
from alibi.model import Decoder, ModelConfig

SHAPE = ModelConfig("alibi", 300, layers=2, width=64, heads=8, feedforward=96)
CLOSE = 1e-3
# Marks, spaces and letters on which tokenisers differ.
ODD = [
    "it's we'll THEY'VE I'd", "  two  spaces ", "\ttabs\t\tand  more", "a\u00a0b\u2003c\u0085d\ufeffe", "naïve Å 岸 🙂",
    "</s> and <unk>", "1,234.5 ½ ²", "e\u0301 \u200b x", "", "\n\n a\n", "\u2028 \x1c\x1f\x00\x7f", "don’t — “so”",
]  # fmt: skip


@pytest.fixture(params=["node", pytest.param("chromium", marks=pytest.mark.slow)])
def compute(request, tmp_path):
    """Calls a function with one argument, with the page's scripts and those of these texts."""
    run = in_node if request.param == "node" else in_browser(request)

    def compute(texts, expression, given):
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"{number}.js")
            files[-1].write_text(text, encoding="utf-8")
        return run([*files_of("try-it")[:-1], *files], expression, given)

    return compute


def lively(method, shape=SHAPE):
    """A model whose heads and predictions are far from uniform, as a trained one's are."""
    torch.manual_seed(1)
    model = Decoder(replace(shape, method=method)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter + 0.3 * torch.randn_like(parameter) if parameter.dim() == 1 else 1.7 * parameter)
    return model


READ = """({method, tokens, window, before}) => {
    const model = Decoder.model(Decoder.files[method]);
    let reading;
    for (const [sources, length, stop] of [...before, [tokens, window, tokens.length]]) {
        reading = Decoder.reading(model, sources, length, reading);
        while (reading.done < stop) Decoder.step(reading);
    }
    const last = tokens.length - 1, heads = [...Array(model.heads).keys()];
    const look = (layer) => heads.map((head) => [...Decoder.attention(reading, layer, head, last)]);
    return {
        losses: [...reading.losses].slice(0, -1),
        next: [...Decoder.logProbabilities(reading, last)],
        looks: reading.layers.map((_, layer) => look(layer)),
    };
}"""


@pytest.mark.parametrize("method", METHODS)
def test_losses_probabilities_and_attention_are_those_of_torch(compute, method):
    model = lively(method)
    exact, tokens = rounded(model), np.random.default_rng(0).integers(0, SHAPE.vocabulary_size, 333)
    # Shorter than a block, no multiple of one, and one window.
    for window in (5, 100, 400):
        found = compute(
            [model_script(model)],
            READ,
            {"method": method, "tokens": [0, *tokens.tolist()], "window": window, "before": []},
        )
        np.testing.assert_allclose(found["losses"], page_model.losses(exact, tokens, 0, window), atol=CLOSE)
        # The last source begins no window of its own here.
        start = len(tokens) // window * window
        next_V, rows = page_model.looked_at(exact, torch.tensor([0, *tokens.tolist()])[start:])
        np.testing.assert_allclose(found["next"], next_V, atol=CLOSE)
        for layer, row_HT in enumerate(rows):
            np.testing.assert_allclose(found["looks"][layer], row_HT, atol=CLOSE)
            assert row_HT.max() > 0.2 or window == 400
    assert found["losses"][0] > 1


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_read_again_changes_nothing(compute, method):
    model = lively(method)
    tokens = [0, *np.random.default_rng(0).integers(1, SHAPE.vocabulary_size, 150).tolist()]
    other = [*tokens[:90], 7, 8, 9, *tokens[91:]]
    cases = {
        "another window": [[tokens, 32, 151]],
        "a wider one, stopped on the way": [[tokens, 128, 60]],
        "another end": [[other, 64, len(other)]],
        "a longer text": [[[*tokens, 5, 6], 64, 153]],
        "back and forth": [[tokens, 64, 151], [other, 16, 40], [tokens, 64, 3]],
        "a text of nothing": [[[0], 64, 1]],
    }
    given = {"method": method, "tokens": tokens, "window": 64, "before": []}
    fresh = compute([model_script(model)], READ, given)
    for name, before in cases.items():
        found = compute([model_script(model)], READ, given | {"before": before})
        for part, values in fresh.items():
            np.testing.assert_allclose(found[part], values, atol=1e-5, err_msg=name)


def test_every_half_number_is_torchs(compute):
    found = compute([], "() => Array.from({length: 65536}, (_, bits) => String(Decoder.half(bits)))", None)
    expected = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.float16).double()
    np.testing.assert_array_equal([float(text.replace("Infinity", "inf")) for text in found], expected)


@pytest.fixture(scope="module")
def corpus():
    return load("wikipedia-sample")


ENCODE = """(texts) => {
    const table = BytePairs.table(BytePairs.files.vocabulary);
    return texts.map((text) => {
        const tokens = BytePairs.encode(table, text);
        return [tokens, BytePairs.decode(table, tokens)];
    });
}"""


def test_a_text_has_the_tokens_that_python_reads(compute, corpus):
    texts = [*ODD, corpus.text("valid")[:60_000]]
    for text, (tokens, back) in zip(texts, compute([vocabulary_script(corpus)], ENCODE, texts), strict=True):
        assert tokens == corpus.vocabulary.encode(text), text[:40]
        assert back == text


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn"])), min_size=20))
def test_any_text_has_the_tokens_that_python_reads(tmp_path, corpus, texts):
    (tmp_path / "vocabulary.js").write_text(vocabulary_script(corpus), encoding="utf-8")
    found = in_node([*files_of("try-it")[:-1], tmp_path / "vocabulary.js"], ENCODE, texts)
    assert [tokens for tokens, _ in found] == [corpus.vocabulary.encode(text) for text in texts]


def test_what_the_page_cannot_compute_is_refused(corpus):
    for changes in ({"method": "rotary"}, {"cutoffs": (100,)}, {"width": 48}, {"decay_window": 12.0}):
        with pytest.raises(InputError, match="a page computes alibi and sinusoidal"):
            model_script(Decoder(replace(SHAPE, **changes)))
    with pytest.raises(InputError, match="is read by words"):
        vocabulary_script(replace(corpus, tokenisation="words"))


def test_passages_are_the_first_articles_of_the_validation_text(corpus):
    found = page_model.passages(corpus, 2047)
    text = corpus.text("valid")
    assert text.startswith(next(iter(found.values())))
    assert len(found) == 3 and list(found) == re.findall(r"(?m)^ = ([^=\n]+) = $", text)[:3]
    for passage in found.values():
        assert passage in text and 2000 < len(corpus.vocabulary.encode(passage)) <= 2047


def told(page):
    """Each number of the page's figure by its name, once both models have read the text."""
    numbers = page.locator('[data-widget^="try-"] dl[aria-busy="false"]')
    numbers.wait_for()
    names, values = numbers.locator("dt").all_inner_texts(), numbers.locator("dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def set_to(page, label, value):
    slider = page.get_by_label(label, exact=True)
    slider.evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", str(value)
    )


@pytest.fixture(scope="module")
def check(corpus):
    """Compares the numbers of a page's figure with torch's, for a text and a window in tokens."""
    models = {name: rounded(model) for name, model in page_models().items()}

    def check(page, text, window):
        length = json.loads(page.locator('[data-widget^="try-"] > script').inner_text())["length"]
        tokens = corpus.vocabulary.encode(text)[: 16 * length - 1]
        shown = told(page)
        for name, title in (("alibi", "ALiBi"), ("sinusoidal", "Sinusoidal")):
            losses = page_model.losses(models[name], tokens, corpus.end_of_line, window)
            number = shown[f"{title}: perplexity"].replace(",", "")
            assert float(number) == pytest.approx(np.exp(losses.mean()), rel=5e-3)
            past = losses[np.arange(len(losses)) % window >= length]
            number = shown[f"{title}: past L"].replace(",", "")
            assert float(number) == pytest.approx(np.exp(past.mean()), rel=5e-3) if len(past) else number == "–"

    return check


@pytest.mark.slow
def test_the_first_page_reads_with_both_models_once_it_is_asked_to(site, visit, check, corpus):
    page = visit((site / "intro.html").as_uri())
    figure = page.locator('[data-widget="try-here"]')
    assert page.locator('script[src*="models/"]').count() == 0 and figure.locator("dl").is_hidden()
    text = figure.get_by_role("textbox").input_value()
    assert text == next(iter(page_model.passages(corpus, 2047).values()))
    figure.get_by_role("button", name="Load both models").click()
    check(page, text, 2048)
    for window, label in ((512, "4 L = 512"), (128, "L = 128 tokens")):
        figure.get_by_label(label, exact=True).check(force=True)
        check(page, text, window)
    figure.get_by_role("textbox").fill("word " * 3000)
    check(page, "word " * 3000, 128)
    assert "the rest is left out" in figure.get_by_role("status").inner_text()
    assert page.told == []


@pytest.mark.slow
def test_the_page_shows_torchs_numbers_for_any_text_and_window(site, visit, check, corpus):
    models = {name: rounded(model) for name, model in page_models().items()}
    page = visit((site / "try-it.html").as_uri())
    length = json.loads(page.locator('[data-widget="try-it"] > script').inner_text())["length"]
    first, second = list(page_model.passages(corpus, 16 * length - 1).values())[:2]
    check(page, first, 16 * length)
    set_to(page, "window", 2)  # The next text comes while this one is read.
    page.get_by_label("Algae").check(force=True)
    check(page, second, 2 * length)
    for text in ("A text of the reader's own: naïve, 岸 and\na second line.", "word " * 3000):
        page.get_by_role("textbox", name="the text").fill(text)
        check(page, text, 2 * length)
    assert "the rest is left out" in page.locator(".widget-progress").inner_text()
    # A text within L needs no new work in another window, which has its point all the same.
    page.get_by_role("textbox", name="the text").fill("The cat sat on the mat.")
    for window in (16, 13):
        set_to(page, "window", window)
        page.get_by_role("img", name=re.compile(rf"(^|\D){window} L: ALiBi [\d.,]+, Sinusoidal [\d.,]+")).wait_for()
    page.get_by_role("textbox", name="the text").fill("")
    assert set(told(page).values()) == {"–"}
    # The likeliest next token is torch's.
    page.get_by_role("textbox", name="the text").fill("The cat sat on the")
    told(page)
    sources = [corpus.end_of_line, *corpus.vocabulary.encode("The cat sat on the")]
    for table, model in zip(page.locator(".widget-pair table").all(), models.values(), strict=True):
        best = page_model.looked_at(model, torch.tensor(sources))[0].argmax().item()
        row = table.locator("tbody tr").first.locator("th").inner_text()
        assert row == re.sub("^ ", "·", corpus.vocabulary.decode([best])).replace("\n", "¶")
    assert page.told == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["intro", "try-it"])
def test_a_site_without_the_models_says_so_and_keeps_the_still_figure(site, browser, name):
    page = browser.new_page()
    page.set_default_timeout(1000 * HANGS_AFTER)
    page.route("**/models/*.js", lambda route: route.abort())
    page.goto((site / f"{name}.html").as_uri())
    figure = page.locator('[data-widget^="try-"]')
    if name == "intro":
        figure.get_by_role("button", name="Load both models").click()
    figure.get_by_text("make book makes them").wait_for()
    assert name == "intro" or page.locator(".widget-still").count() == 0
    page.close()


def test_the_chapter_says_how_small_the_models_are():
    (cell,) = [
        cell for cell in json.loads((ROOT / "book" / "try-it.ipynb").read_text())["cells"] if cell["id"] == "size"
    ]
    printed = "".join(cell["outputs"][0]["text"])
    config = replace(SHAPE, vocabulary_size=4096, layers=3, width=96, feedforward=384)
    assert f"{Decoder(config).parameter_count():,}" in printed
    megabytes = float(re.search(r"([\d.]+) MB", printed)[1])
    assert megabytes * 1e6 <= page_model.BYTES
