"""The figures that move compute what Python does, answer to the keyboard, and need no scripting to be replaced."""

import json
import re
from collections import Counter

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT
from javascript import files_of, in_browser, in_node

from alibi.book import plots, results
from alibi.book.chapters import chapters
from alibi.book.widgets import FOLDER, NAMES, SHARED, figures, scripts, widget
from alibi.corpora.vocabulary import BytePairVocabulary
from alibi.evaluate import AgainstItself
from alibi.positions import position_method, slopes
from alibi.positions.rotary import frequencies, rotate
from alibi.positions.t5 import bucket
from alibi.positions.window import WINDOWS_IN_L
from alibi.records import measured_results, paper_results
from alibi.reproduction.claims import VERDICTS, scorecard
from alibi.reproduction.evidence import as_records
from alibi.windows import evaluation_windows

LINES = 300
BYTES = 50_000


@pytest.fixture(params=["node", pytest.param("chromium", marks=pytest.mark.slow)])
def compute(request):
    """Calls a function of a figure's script with one argument."""
    run = in_node if request.param == "node" else in_browser(request)
    return lambda name, expression, given: run(files_of(name), expression, given)


def test_slopes_are_the_official_ones_for_every_head_count(compute):
    counts = list(range(1, 65))
    found = compute("dial", "counts => counts.map(Dial.slopes)", counts)
    for count, of_heads in zip(counts, found, strict=True):
        np.testing.assert_allclose(of_heads, slopes(count), rtol=1e-12)


def test_the_dials_weights_are_those_of_the_methods(compute):
    keys, length, head = 700, 128, 2
    table = torch.randn(8, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    distance = torch.arange(keys)
    script = """({form, slope, table, keys, length}) => {
        const sums = Dial.soFar((distance) => Dial.bias(form, slope, distance, length, table), keys);
        return [[...sums], Dial.nearest(sums, 0.9), Dial.beyond(sums, length)];
    }"""
    for form in ("alibi", "alibi-quadratic", "alibi-logarithmic", "window", "t5"):
        if form == "t5":
            bias_S = table[head, bucket(distance)]
        else:
            # The dial's window is L, that of the method a part of it.
            method = position_method(form, 64, 8, WINDOWS_IN_L * length if form == "window" else length).bias()
            bias_S = method.dense(torch.tensor([keys - 1]), distance, torch.float64)[head, 0].flip(0)
        expected = bias_S.softmax(0).cumsum(0).numpy()
        given = {"form": form, "slope": slopes(8)[head], "table": table[head].tolist(), "keys": keys, "length": length}
        found, nearest, beyond = compute("dial", script, given)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert nearest == (expected < 0.9 - 1e-12).sum() + 1
        assert abs(beyond - (1 - expected[length - 1])) < 1e-6


def test_every_distance_has_its_t5_bucket(compute):
    found = compute("dial", "many => Array.from({ length: many }, (_, distance) => Dial.bucket(distance))", 66_000)
    assert found == bucket(torch.arange(66_000)).tolist()


def test_windows_are_those_of_the_evaluation(compute):
    draw = np.random.default_rng(0)
    cases = [[32, 8, 8], [32, 8, 4], [32, 8, 1], [5, 16, 3]]
    for length in draw.integers(1, 60, 40).tolist():
        cases.append([int(draw.integers(1, 200)), length, int(draw.integers(1, length + 1))])
    script = "cases => cases.map(([n, l, s]) => [Cut.windows(n, l, s), Cut.context(Cut.windows(n, l, s)), "
    found = compute("cut", script + "Cut.cost(n, l, s, 4)])", cases)
    for (tokens, length, stride), (grid, context, cost) in zip(cases, found, strict=True):
        windows = list(evaluation_windows(tokens, length, stride))
        assert [(w["start"], w["scored"], w["end"]) for w in grid] == [(w.start, w.scored, w.end) for w in windows]
        seen = [place - w.start + 1 for w in windows for place in range(w.scored, w.end)]
        assert context == seen
        assert cost["run"] == sum(w.end - w.start for w in windows)
        assert cost["starved"] == pytest.approx(np.mean(np.array(seen) <= 4))
        assert cost["least"] == min(seen[length:] or seen)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_numbers_are_rounded_as_torch_rounds_them(compute, name):
    generator = torch.Generator().manual_seed(0)
    ordinary = torch.randn(2000, generator=generator) * 2.0 ** torch.randint(-30, 17, (2000,), generator=generator)
    halfway = (torch.arange(1, 2000).to(getattr(torch, name)).float() + torch.arange(2, 2001).float()) / 2
    values = torch.cat(
        [ordinary, halfway, -halfway, torch.tensor([65519.0, 65520.0, 65504.0, 0.0, 2.0**-24, 2.0**-25])]
    )
    found = compute("staircase", f"values => values.map((v) => String(Staircase.{name}(v)))", values.tolist())
    expected = values.to(getattr(torch, name)).double().tolist()
    assert [float(text.replace("Infinity", "inf")) for text in found] == expected


def test_the_staircases_weights_are_those_of_torch(compute):
    script = """({slope, keys, form, dtype}) => {
        const found = Staircase.weights(slope, keys, form, dtype);
        const exact = Staircase.weights(slope, keys, "relative");
        return [[...found.subarray(-32)], Staircase.misplaced(found, exact)];
    }"""
    for heads, head in ((8, 0), (8, 7), (12, 9)):
        slope = torch.tensor(slopes(heads), dtype=torch.float64)[head]
        for form, dtype in (("absolute", "bfloat16"), ("absolute", "float16"), ("relative", "bfloat16")):
            for keys in (64, 3072, 5000):
                exact_S = slope * torch.arange(1 - keys, 1)
                biases = {"absolute": slope * torch.arange(keys), "relative": exact_S}
                rounded_S = biases[form].to(getattr(torch, dtype)).double().softmax(-1)
                given = {"slope": slope.item(), "keys": keys, "form": form, "dtype": dtype}
                found, misplaced = compute("staircase", script, given)
                np.testing.assert_allclose(found, rounded_S[-32:], atol=1e-6)
                wrong = (rounded_S - exact_S.softmax(-1)).abs().sum().item() / 2
                assert misplaced == pytest.approx(wrong, abs=1e-6)


def test_what_a_long_window_has_cost_is_the_sum_of_its_tokens(compute):
    means = np.random.default_rng(0).normal(size=8).round(4)
    script = "({means, places}) => places.map((place) => Watch.soFar(means, 32, place))"
    found = compute("watch", script, {"means": means.tolist(), "places": list(range(1, 257))})
    np.testing.assert_allclose(found, np.repeat(means, 32).cumsum(), atol=1e-9)


def test_a_result_of_one_article_has_a_curve_and_no_band():
    vocabulary = BytePairVocabulary.train(["and then there were none\n"] * 9, 270)
    tokens = np.array(vocabulary.encode(" and then there were none" * 9))
    one = AgainstItself(2, 8, 2, nats=np.array([[0.0], [0.5], [1.0], [2.0]]), tokens=np.full((4, 1), 2))
    (text,) = re.findall(r">(\{.*\})</script>", figures.watch({"alibi": one}, vocabulary, tokens).data)
    (method,) = json.loads(text)["methods"]
    assert method["means"] == [0, 0.25, 0.5, 1] and method["margins"] == [0, 0, 0, 0]


def test_curves_are_the_papers_relative_ones(compute):
    html = figures.curves(paper_results(), measured_results("wikitext103"), {"Table 2": 512}).data
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    theirs = json.loads(text)["pairs"][0]["sides"][0]
    rows = results.relative(paper_results().query("source == 'Table 2'")).set_index("method")
    for curve in theirs["curves"]:
        given = {"curve": curve, "length": 512}
        found = compute("curves", "({curve, length}) => Curves.relative(curve, length)", given)
        expected = rows.loc[curve["method"]].sort_values("eval_length")
        np.testing.assert_allclose(found, expected[["multiple", "ratio"]].dropna(), rtol=1e-6)
        nearest = compute("curves", "({curve}) => [2, 40].map((k) => Curves.nearest(curve, 512, k) || null)", given)
        assert nearest[0]["length"] == 1012 and nearest[1] is None


def test_exchanged_names_turn_the_verdicts_that_python_turns(compute):
    paper, swap = paper_results(), {"alibi": "sinusoidal", "sinusoidal": "alibi"}
    numbers = as_records(paper)
    own = scorecard(numbers, paper)
    other = scorecard(numbers.assign(method=numbers.method.replace(swap)), paper)
    html = figures.scorecard({"theirs": (own, other)}).data
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    script = """({claims}) => [Scorecard.flipped(claims, "theirs").map(({number}) => number),
        Scorecard.count(claims, "theirs, exchanged")]"""
    turned, counted = compute("scorecard", script, json.loads(text))
    assert turned == [str(a.number) for a, b in zip(own, other, strict=True) if a.verdict != b.verdict] != []
    assert counted == Counter(verdict.verdict for verdict in other)
    kinds = compute("scorecard", "words => words.map(Scorecard.kind)", list(VERDICTS))
    expected = ["for"] * 3 + ["neither"] + ["against"] * 2 + ["for"] + ["neither"] * 2
    assert kinds == expected


def test_far_keys_take_the_share_that_a_softmax_gives_them(compute):
    given = stored("drowned")
    distance = torch.arange(2**19)
    assert given["widths"] == torch.bincount(bucket(distance))[:-1].tolist()
    start = sum(given["widths"])
    script = """({table, widths, slopes, windows}) => [
        table.map((head) => windows.map((keys) => Drowned.t5(head, widths, head[widths.length], keys))),
        slopes.map((slope) => windows.map((keys) => Drowned.alibi(slope, Drowned.start(widths), keys))),
        slopes.map((slope) => Drowned.limit(slope, Drowned.start(widths))),
    ]"""
    windows = [start - 1, start, start + 1, 128, 2048, 65_536, 2**19]
    learned, falling, limits = compute("drowned", script, given | {"windows": windows})
    biases = {"t5": torch.tensor(given["table"], dtype=torch.float64)[:, bucket(distance)]}
    biases["alibi"] = -torch.tensor(slopes(len(given["slopes"])), dtype=torch.float64)[:, None] * distance
    for found, bias_HS in ((learned, biases["t5"]), (falling, biases["alibi"])):
        expected = [[head_S[:keys].softmax(0)[start:].sum().item() for keys in windows] for head_S in bias_HS]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(limits, np.array(falling)[:, -1], rtol=1e-9)


def test_a_last_bucket_at_the_level_of_the_nearer_ones_gives_equal_attention(compute):
    given = stored("drowned")
    script = """({table, widths}) => table.map((head) => Drowned.t5(head, widths, Drowned.level(head, widths), 512))"""
    np.testing.assert_allclose(compute("drowned", script, given), 1 - sum(given["widths"]) / 512, rtol=1e-12)


def test_hands_stand_where_rotary_turns_a_pair(compute):
    given = stored("hands")
    script = """({models, offsets}) => models.map(({frequencies, length}) => offsets.map((offset) => [
        frequencies.map((one) => Hands.angle(one, offset)), frequencies.map((one) => Hands.away(one, length, offset)),
        Hands.count(frequencies, length, offset)]))"""
    offsets = [0, 1, 100, 127, 128, 129, 300, 511, 512, 700, 3071, 3072, 12_288]
    for model, found in zip(given["models"], compute("hands", script, given | {"offsets": offsets}), strict=True):
        pairs, length = len(model["frequencies"]), model["length"]
        rows = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(len(offsets), pairs)
        cosine_TK, sine_TK = rotate(rows, torch.tensor(offsets)).chunk(2, dim=-1)
        turned_TK = torch.complex(cosine_TK, sine_TK).numpy()
        np.testing.assert_allclose(np.exp(1j * np.array([angles for angles, _, _ in found])), turned_TK, atol=1e-9)
        # The nearest angle that training has shown, among many offsets below L.
        theta_K = frequencies(2 * pairs).numpy()
        shown_NK = np.exp(1j * np.linspace(0, length - 1, 2001)[:, None] * theta_K)
        round_K = 2 * np.pi / theta_K <= length
        for offset, turned_K, (_, away, counted) in zip(offsets, turned_TK, found, strict=True):
            expected_K = np.where(round_K, 0, abs(np.angle(turned_K / shown_NK)).min(axis=0))
            np.testing.assert_allclose(away, expected_K, atol=2e-3)
            assert counted["round"] == round_K.sum() and counted["strange"] == np.count_nonzero(away)
            if offset <= length:
                assert counted["strange"] == (0 if offset < length else np.count_nonzero(~round_K))
            assert counted["farthest"] == pytest.approx(np.degrees(expected_K.max()), abs=0.1)


def test_scripts_are_short_and_classic():
    for file in FOLDER.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") < LINES, file.name
        forbidden = r"^\s*(import|export)\b|\bfetch\(|https?://(?!www\.w3\.org/)"
        assert not re.search(forbidden, text, re.MULTILINE), file.name


def test_a_container_holds_its_data_and_no_more():
    html = widget("cut", {"words": ["</script>", "a & b"], "number": 0.5}).data
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert json.loads(text) == {"words": ["</script>", "a & b"], "number": 0.5}
    assert scripts(f"<p>{html}</p>") == [SHARED, "cut.js"] and scripts("<p>cut</p>") == []
    models = ["bytepairs.js", "decoder.js", "reader.js"]
    for name in ("try-here", "try-it"):
        assert scripts(widget(name, {}).data) == [SHARED, *models, f"{name}.js"]
    with pytest.raises(ValueError, match=r"unknown moving figure 'cat'.*cut"):
        widget("cat", {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        widget("cut", {"number": float("nan")})


def test_a_dark_page_has_colours_that_can_be_told_from_its_ground():
    def light(colour):
        channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    ground = light(plots.on_dark("#FFFFFF"))
    for method in plots.PAPER_ORDER:
        assert (light(plots.on_dark(plots.COLOURS[method])) + 0.05) / (ground + 0.05) > 3, method


def placed():
    """Each moving figure in the stored chapters: chapter, name, whether the cell before has a picture, and its HTML."""
    found = []
    for path in chapters(ROOT):
        if path.suffix == ".ipynb":
            before = []
            for cell in nbformat.read(path, as_version=4).cells:
                kinds = [output.get("data", {}) for output in cell.get("outputs", [])]
                for html in (data["text/html"] for data in kinds if "data-widget" in data.get("text/html", "")):
                    assert len(html) < BYTES, f"{path.name}: {cell.id}"
                    name = re.search(r'data-widget="([\w-]+)"', html)[1]
                    found.append((path.stem, name, any("image/png" in data for data in before), html))
                before = kinds
    return found


WHOLE = placed()
PLACED = [place for *place, _ in WHOLE]


def stored(name):
    """The data of the one moving figure of this name, as it is in its chapter."""
    (html,) = (html for _, found, _, html in WHOLE if found == name)
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])


def test_each_moving_figure_is_in_a_chapter():
    assert {name for _, name, _ in PLACED} == set(NAMES)


each_figure = pytest.mark.parametrize(("chapter", "name", "pictured"), PLACED, ids=[name for _, name, _ in PLACED])


@pytest.mark.slow
@each_figure
def test_a_figure_moves_by_the_keyboard(site, visit, chapter, name, pictured):
    page = visit((site / f"{chapter}.html").as_uri())
    figure = page.locator(f'[data-widget="{name}"]')
    assert figure.is_visible()
    stills = page.locator(".widget-still").all()
    assert len(stills) == sum(pictured for place, _, pictured in PLACED if place == chapter)
    assert not any(still.is_visible() for still in stills)
    controls = figure.locator("input:enabled:not([type=radio]), input[type=radio]:checked, button, summary, a")
    assert controls.count() > 0
    before = figure.inner_html()
    # Only up to the first that moves the figure: it may make others anew.
    for control in controls.all():
        control.focus()
        page.keyboard.press("Space" if control.get_attribute("type") == "checkbox" else "ArrowLeft")
        if figure.inner_html() != before:
            return
    pytest.fail("no control moves it")


@pytest.mark.slow
def test_hands_run_and_stop_and_only_step_where_motion_is_not_wanted(site, visit):
    for motion in ("no-preference", "reduce"):
        page = visit((site / "rotary.html").as_uri(), reduced_motion=motion)
        figure = page.locator('[data-widget="hands"]')
        slider = figure.locator("input[type=range]")
        length = int(slider.get_attribute("max")) // 4
        figure.locator("button").first.click()
        if motion == "reduce":
            assert slider.input_value() == str(length // 2)
            figure.locator("button").first.click()
            assert slider.input_value() == str(length)
        else:
            page.wait_for_function("input => input.value > 1", arg=slider.element_handle())
            figure.locator("button", has_text="pause").click()
            stopped = slider.input_value()
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            assert slider.input_value() == stopped


@pytest.mark.slow
@each_figure
def test_without_scripting_the_still_figure_stands(site, visit, chapter, name, pictured):
    page = visit((site / f"{chapter}.html").as_uri(), java_script_enabled=False)
    assert page.locator(f'[data-widget="{name}"]').is_hidden()
    if pictured:
        before = page.locator(f'.cell:has([data-widget="{name}"])').locator("xpath=preceding-sibling::*[1]")
        assert before.locator("figure img").is_visible()


@pytest.mark.slow
@each_figure
def test_print_has_the_still_figure(site, visit, chapter, name, pictured):
    page = visit((site / f"{chapter}.html").as_uri())
    page.emulate_media(media="print")
    assert page.locator(f'[data-widget="{name}"]').is_hidden()
    assert not pictured or page.locator(".widget-still").first.is_visible()


@pytest.mark.slow
@each_figure
def test_tab_leads_into_a_figure(site, visit, chapter, name, pictured):
    page = visit((site / f"{chapter}.html").as_uri(), reduced_motion="reduce")
    figure = page.locator(f'[data-widget="{name}"]')
    figure.evaluate("figure => { figure.tabIndex = -1; figure.focus(); }")
    page.keyboard.press("Tab")
    assert figure.evaluate("figure => figure !== document.activeElement && figure.contains(document.activeElement)")
