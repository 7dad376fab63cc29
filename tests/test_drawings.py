"""The drawings: their numbers are those of the methods, their colours those of the figures, and they can be read."""

import math
import re
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT

from alibi.book import drawings, plots
from alibi.book.chapters import chapters
from alibi.book.drawings.sheet import WIDTH
from alibi.records import paper_results
from alibi.reproduction import claims
from alibi.windows import evaluation_windows

SVG = "{http://www.w3.org/2000/svg}"
# CSS pixels that a phone of 390 leaves for a figure, and the least of type on it.
PHONE, LEAST = 358, 11

each_drawing = pytest.mark.parametrize("name", drawings.__all__)


def svg_of(name):
    return getattr(drawings, name)()._repr_svg_()


def elements(name, kind):
    return list(ElementTree.fromstring(svg_of(name)).iter(f"{SVG}{kind}"))


def words(name):
    return ["".join(text.itertext()) for text in elements(name, "text")]


def share(colour, of):
    """How much of a colour is in its mixture with white, by each channel that the colour lowers."""
    mixed, whole = ([255 - value for value in bytes.fromhex(code[1:])] for code in (colour, of))
    return [m / w if w else m for m, w in zip(mixed, whole, strict=True)]


@each_drawing
def test_a_drawing_says_what_it_shows(name):
    root = ElementTree.fromstring(svg_of(name))
    title, desc, *_ = root
    assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
    assert len(title.text) > 20 and len(desc.text) > 80 and not title.text.endswith(".") and desc.text.endswith(".")
    assert root.get("role") == "img" and root.get("aria-labelledby").split() == [title.get("id"), desc.get("id")]


def test_ids_are_told_apart_where_drawings_share_a_page():
    ids = [found for name in drawings.__all__ for found in re.findall(r' id="(.+?)"', svg_of(name))]
    assert len(ids) == len(set(ids)) == 2 * len(drawings.__all__)


@each_drawing
def test_colours_are_greys_and_those_of_the_methods(name):
    for colour in set(re.findall(r"#[0-9A-Fa-f]{6}", svg_of(name))):
        if len(set(bytes.fromhex(colour[1:]))) > 1:
            near = [np.ptp(share(colour, of=plots.COLOURS[method])) < 0.03 for method in plots.PAPER_ORDER]
            assert any(near), colour


def placed():
    """Each drawing that a stored chapter shows: its name, the chapter, and its cell."""
    found = []
    for path in chapters(ROOT):
        if path.suffix == ".ipynb":
            for cell in nbformat.read(path, as_version=4).cells:
                names = re.findall(r"^drawings\.(\w+)\(", cell.source, re.MULTILINE)
                found += [(name, path.stem, cell) for name in names if cell.cell_type == "code"]
    return found


def test_each_drawing_is_in_one_chapter_as_it_is_drawn_now():
    shown = placed()
    assert sorted(name for name, _, _ in shown) == sorted(drawings.__all__)
    for name, chapter, cell in shown:
        drawing = getattr(drawings, name)()
        (output,) = cell.outputs
        assert output.data["image/svg+xml"] == svg_of(name), f"{chapter}: {cell.id}"
        assert "remove-input" in cell.metadata.tags, "a page shows the drawing without the line that calls it"
        assert cell.metadata.mystnb.image.alt == f"{drawing.title}. {drawing.told}"


def test_the_triangle_holds_minus_the_distance():
    found = words("score_triangles")
    at = found.index("q₁k₁")
    cells = found[at : found.index("+")]
    low = "₁₂₃₄₅"
    pairs = [(i, j) for i in range(5) for j in range(i + 1)]
    assert cells == [text for i, j in pairs for text in (f"q{low[i]}k{low[j]}", f"{j - i}".replace("-", "−"))]


def test_each_head_fades_with_its_slope():
    rows = {}
    for box in elements("reach_of_heads", "rect")[1:]:
        rows.setdefault(float(box.get("y")), []).append(box.get("fill"))
    assert len(rows) == 8
    for head, fills in enumerate(rows.values(), start=1):
        weights = np.exp(-(2.0**-head) * np.arange(len(fills)))[::-1]
        found = [share(fill, of=plots.COLOURS["alibi"]) for fill in fills]
        np.testing.assert_allclose(found, np.repeat(weights[:, None], 3, axis=1), atol=0.01)
    told = words("reach_of_heads")
    assert told[-18:-2] == [text for head in range(1, 9) for text in (f"{2**head}", f"1/{2**head}")]


def test_windows_are_those_of_the_evaluation():
    rows = {}
    for box in elements("windows", "rect")[1:-2]:
        rows.setdefault(float(box.get("y")), []).append((round(float(box.get("x")) // 45), box.get("fill")))
    scored = plots.COLOURS["alibi"]
    found = [[(place, fill == scored) for place, fill in row] for row in rows.values()]
    blocks = [[(place, True) for place in range(start, start + 4)] for start in (0, 4)]
    steps = [[(start + k, k == 3) for k in range(4)] for start in range(1, 5)]
    assert found == [*blocks, blocks[0], *steps]
    for stride, shown in ((4, found[:2]), (1, found[2:])):
        counted = [place for row in shown for place, counts in row if counts]
        official = [place for w in evaluation_windows(8, 4, stride) for place in range(w.scored, w.end)]
        assert counted == official


def test_the_toll_is_the_loss_of_a_model_that_is_blind_beyond_the_window():
    boxes = elements("toll_of_a_border", "rect")[1:-2]
    heights = [float(box.get("height")) for box in boxes]
    added = np.array(heights[1::2])
    np.testing.assert_allclose(added / added[0], np.tile(np.log(8 / np.arange(1, 9)), 2) / np.log(8), atol=1e-5)
    assert len(set(heights[::2])) == 1
    paper = paper_results().query("train_length == 512 and eval_length == 512 and method == 'alibi'")
    without, slid = (paper[paper.source == table].value.item() for table in ("Table 5", "Table 15"))
    assert f"{512 * np.log(without / slid):.0f} nats in the" in words("toll_of_a_border")


def test_buckets_begin_where_the_formula_has_them():
    starts = [*range(16), *(math.ceil(16 * 8 ** (k / 16)) for k in range(16))]
    rows = {}
    for box in elements("t5_buckets", "rect")[1:]:
        rows.setdefault(box.get("y"), []).append(float(box.get("x")))
    near, far = rows.values()
    np.testing.assert_allclose(far, np.multiply(far[1], starts), rtol=1e-5)
    np.testing.assert_allclose(near, np.multiply(near[1], starts[: len(near)]), rtol=1e-5)
    told = words("t5_buckets")
    assert {"31 →", "113"} <= set(told) and {int(text) for text in told if text.isdigit()} <= {*starts, *range(32)}


def test_ticks_are_the_numbers_that_bfloat16_holds():
    lines = [
        [point.split(",") for point in line.get("points").split()] for line in elements("bfloat16_numbers", "polyline")
    ]
    upright = [(float(y), float(x)) for (x, y), (x2, _) in lines[1:] if x == x2]
    moved = [text.split(" → ") for text in words("bfloat16_numbers") if "→" in text]
    assert [torch.tensor(int(number)).bfloat16().item() for number, _ in moved] == [int(lands) for _, lands in moved]
    assert len(moved) == 5 and "139 stays" in words("bfloat16_numbers")
    for row, start in enumerate(2**power for power in range(7, 13)):
        ticks = sorted(x for y, x in upright if y == sorted({y for y, _ in upright})[row])
        whole = torch.arange(start, start + 33)
        held = (whole.bfloat16().int() == whole).nonzero()[:, 0].numpy()
        np.testing.assert_allclose((np.array(ticks) - ticks[0]) / (ticks[-1] - ticks[0]), held / 32, atol=1e-4)


def test_the_way_to_a_verdict_uses_the_words_of_the_scorecard():
    told = words("claim_to_verdict")
    assert {claims.REPRODUCED, claims.SEEN_ONCE, claims.NOT_REPRODUCED, claims.CONTRADICTED_ONCE} <= set(told)
    assert [told.count(word) for word in (claims.INCONCLUSIVE, claims.HOLDS, claims.UNDECIDED, claims.BROKEN)] == [
        2,
        1,
        1,
        1,
    ]
    (claim,) = (claim for claim in claims.CLAIMS if claim.title in told)
    assert claim.parts[0].rule in told and f"{claim.parts[0].high:g}" in told


@pytest.mark.slow
@each_drawing
def test_a_phone_shows_all_of_it_and_type_that_can_be_read(browser, name):
    page = browser.new_page(viewport={"width": PHONE, "height": 600})
    page.set_content(f"<body style='margin: 0'>{svg_of(name)}<style>svg {{ width: 100%; height: auto }}</style>")
    boxes = page.evaluate("""() => [...document.querySelectorAll("svg :is(rect, polyline, polygon, circle, text)")].map(
        (shape) => {
            const {left, right, top, bottom} = shape.getBoundingClientRect();
            return [shape.textContent, shape.hasAttribute("transform"), left, right, top, bottom];
        })""")
    height = page.evaluate("document.querySelector('svg').getBoundingClientRect().height")
    size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('svg text')).fontSize)")
    page.close()
    assert size * PHONE / WIDTH >= LEAST
    for told, _, left, right, top, bottom in boxes:
        assert left >= -0.01 and right <= PHONE + 0.01 and top >= -0.01 and bottom <= height + 0.01, told
    texts = [box for box in boxes if box[0]]
    # The letters of a line are lower than the line.
    inner = [
        (told, left + 3 * up, right - 3 * up, top + 3 * (not up), bottom - 3 * (not up))
        for told, up, left, right, top, bottom in texts
    ]
    for place, (told, left, right, top, bottom) in enumerate(inner):
        for other, left2, right2, top2, bottom2 in inner[:place]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, f"{told!r} lies on {other!r}"
