"""The built site in a browser, opened as a file: nothing is fetched, nothing fails, nothing scrolls sideways."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import axe_playwright_python
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from nbformat.v4 import new_markdown_cell, new_notebook

from alibi.book import pdf, plots
from alibi.book.build import render
from alibi.book.chapters import KERNEL, chapters
from alibi.book.plots.looks import BRIGHTER, INVERTED

pytestmark = pytest.mark.slow

PAGES = [f"{path.stem}.html" for path in chapters(ROOT)]
WIDTHS = {"desktop": 1400, "phone": 390}
PAGE_BYTES = 1_500_000
SHARED_BYTES = 2_000_000
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
# MathJax marks formulas up, with thousands of elements. Three of a kind stand for all others: coloured tokens of code,
# entries of the package's page and its contents, entries of the index.
AXE_RUN = """(rules) => {
    const threeOfAKind = (selector, leaveOut) => {
        const kinds = {};
        for (const one of document.querySelectorAll(selector)) {
            kinds[one.className] = (kinds[one.className] || 0) + 1;
            if (kinds[one.className] > 3) leaveOut(one);
        }
    };
    const token = "article .highlight pre span:not([id]):not(:has(*))";
    threeOfAKind(token, (one) => one.replaceWith(one.textContent));
    for (const entry of ["dl.py", ".bd-sidebar-secondary li", ".genindextable li"])
        threeOfAKind(entry, (one) => one.remove());
    const levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];
    const runOnly = rules ? { type: "rule", values: rules } : { type: "tag", values: levels };
    const how = { runOnly, preload: false, resultTypes: ["violations"] };
    return axe.run({ exclude: ["mjx-container"] }, how).then(({ violations }) =>
        violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id, nodes }) =>
            [id, nodes.map((node) => node.html.slice(0, 200))]));
}"""


@pytest.fixture(scope="module")
def soups(site):
    """Each page of the book, parsed; tests only read them."""
    return {name: BeautifulSoup((site / name).read_text(encoding="utf-8"), "html.parser") for name in PAGES}


@pytest.fixture(scope="module")
def whole_book(site):
    """The HTML that is printed as a PDF."""
    config, toc = (yaml.safe_load((ROOT / name).read_text()) for name in ("_config.yml", "book/_toc.yml"))
    return pdf._document(site, config, toc, {"alibi": 61})


def assert_whole(page):
    # Equations are drawn after the page has loaded.
    page.evaluate("window.MathJax?.startup?.promise")
    assert page.locator("article h1").first.is_visible()
    undrawn = """[...document.querySelectorAll("article .math.notranslate")].filter((equation) =>
        !equation.querySelector("mjx-container")).map((equation) => equation.innerText)"""
    assert page.evaluate(undrawn) == []
    assert page.locator("mjx-merror").count() == 0
    widths = """Promise.all([...document.querySelectorAll("article img:not(.widget-still, .widget-still *)")].map(
        (image) => { image.loading = "eager"; return image.decode().then(() => image.naturalWidth); }))"""
    assert 0 not in page.evaluate(widths)
    scroll, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert scroll <= shown
    assert page.told == []


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_on_a_phone_without_a_network(site, visit, name):
    page = visit((site / name).as_uri(), WIDTHS["phone"])
    assert_whole(page)
    # What was folded is part of the page.
    page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    # A column of texts is wider than a word, and its cells say which column they are of.
    narrow = """[...document.querySelectorAll("article tbody :is(th, td)")].filter((cell) =>
        cell.innerText.length > 40 && cell.clientWidth > 0 && cell.clientWidth < 130).map((cell) => cell.innerText)"""
    assert page.evaluate(narrow) == []
    for table in page.locator("article table.stacked:visible").all():
        columns = [text.strip() for text in table.locator("thead tr").first.locator("th").all_text_contents()]
        cells = table.locator("tbody tr").first.locator("th, td").all()
        shown = [cell.evaluate("cell => [cell.tagName, cell.dataset.label || '', cell.innerText]") for cell in cells]
        assert len(columns) == len(shown) > 2
        for column, (tag, label, text) in zip(columns, shown, strict=True):
            assert label == (column if tag == "TD" and text.strip() else "")


def test_the_first_page_is_the_introduction(site, visit):
    page = visit((site / "index.html").as_uri())
    page.wait_for_url("**/intro.html")
    assert page.locator("article h1").first.inner_text().startswith("Train Short, Test Long")
    assert page.told == []


def test_the_book_draws_equations_and_figures(site):
    pages = [(site / name).read_text(encoding="utf-8") for name in PAGES]
    assert sum('class="math notranslate' in page for page in pages) >= 1
    assert sum("_images/" in page for page in pages) >= 1


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_search_finds_a_page(site, visit, width):
    page = visit(f"{(site / 'search.html').as_uri()}?q=slope", width)
    page.locator("#search-results li a").first.wait_for()
    found = page.locator("#search-results li a").all()
    assert any("alibi.html" in link.get_attribute("href") for link in found)
    assert page.told == []


def test_one_search_bar(site, visit):
    page = visit((site / "intro.html").as_uri())
    assert [bar.is_visible() for bar in page.locator(".search-button-field").all()].count(True) == 1


def test_each_page_says_what_it_is(site, visit):
    told = (site / "llms.txt").read_text(encoding="utf-8")
    page = visit((site / "alibi.html").as_uri())
    description = page.locator("meta[name=description]").get_attribute("content")
    assert description.startswith("A reader who meets the word it looks back") and len(description) <= 210
    assert page.locator('meta[property="og:title"]').get_attribute("content") == "Attention with linear biases"
    icon = page.locator("link[rel*=icon]").get_attribute("href")
    assert (site / icon.split("?")[0]).is_file()
    for name in PAGES:
        assert f"]({name})" in told
        assert 'name="description"' in (site / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("name", [*PAGES, "genindex.html", "search.html"])
def test_page_is_whole_without_a_network_and_axe_finds_nothing_serious(site, visit, name):
    page = visit((site / name).as_uri())
    page.evaluate("window.MathJax?.startup?.promise")
    if name in PAGES:
        assert_whole(page)
    page.emulate_media(reduced_motion="reduce")
    page.add_script_tag(path=AXE)
    assert page.evaluate(AXE_RUN, None) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert page.evaluate(AXE_RUN, ["color-contrast", "link-in-text-block"]) == []
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 900})
    # What was folded is part of the page.
    page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    # The theme and reading.js make what scrolls reachable once the new width has settled.
    boxes = "[...document.querySelectorAll('article pre')]"
    page.wait_for_function(f"{boxes}.every((box) => box.scrollWidth <= box.clientWidth || box.tabIndex === 0)")
    rules = ["scrollable-region-focusable", "nested-interactive", "button-name", "link-name", "aria-hidden-focus"]
    assert page.evaluate(AXE_RUN, rules) == []
    scroll, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert scroll <= shown
    assert page.locator("a a, a .widget").count() == 0
    assert page.evaluate("document.getAnimations().filter(({ playState }) => playState === 'running').length") == 0


def test_a_citation_tells_its_reference_by_pointer_and_keyboard(site, visit):
    page = visit((site / "alibi.html").as_uri())
    citation = page.locator(".bibtex-citation a").first
    told = citation.locator(".tooltip")
    assert told.count() == 0
    citation.hover()
    told.wait_for()
    assert "Attention with Linear Biases Enables Input Length Extrapolation" in told.inner_text()
    # The pointer may move onto the text.
    told.hover()
    assert told.is_visible()
    page.mouse.move(0, 0)
    told.wait_for(state="detached")
    citation.focus()
    told.wait_for()
    assert citation.get_attribute("aria-describedby") == told.get_attribute("id")
    page.keyboard.press("Escape")
    told.wait_for(state="detached")
    assert page.told == []


def test_a_word_of_the_glossary_tells_its_entry(site, visit):
    page = visit((site / "intro.html").as_uri())
    word = page.locator('article a[href="glossary.html#term-live"]').first
    word.focus()
    word.locator(".tooltip").wait_for()
    entry = BeautifulSoup((site / "glossary.html").read_text(encoding="utf-8"), "html.parser").select_one("#term-live")
    assert word.locator(".tooltip").inner_text() == " ".join(entry.find_next("dd").get_text().split())


def test_each_citation_and_word_has_its_text(soups):
    for links in (".bibtex-citation a", 'article a[href^="glossary.html#term-"]'):
        found = [(name, link) for name, page in soups.items() for link in page.select(links)]
        assert found, links
        for name, link in found:
            assert len(link.get("title", "")) > 20, (name, link)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_figure_opens_large(site, visit, width):
    page = visit((site / "alibi.html").as_uri(), width)
    link = page.locator("article a.enlarge:visible").first
    small = link.locator("img").bounding_box()["width"]
    for opens, closes in (("click", "click"), ("Enter", "Escape")):
        link.click() if opens == "click" else link.press(opens)
        large = page.locator("dialog.enlarged[open] img")
        assert large.get_attribute("alt") == link.locator("img").get_attribute("alt")
        assert large.bounding_box()["width"] > 1.2 * small
        large.click() if closes == "click" else page.keyboard.press(closes)
        # The browser tells of the close in a task of its own.
        page.locator("dialog.enlarged").wait_for(state="detached")
        assert page.evaluate("document.activeElement.classList.contains('enlarge')")


def test_a_page_loads_little_and_the_site_holds_nothing_else(site, soups):
    loaded = set()
    for name, page in soups.items():
        images = {site / image["src"] for image in page.select("article img")}
        weight = (site / name).stat().st_size + sum(image.stat().st_size for image in images)
        assert weight < PAGE_BYTES, f"{name} has {weight:,} bytes"
        addresses = [tag.get("src") or tag.get("href") for tag in page.select("script[src], link[rel=stylesheet]")]
        own = {site / re.sub(r"\?.*", "", address) for address in addresses}
        scripts = {file for file in own if file.suffix == ".js"} - {site / "searchindex.js"}
        assert sum(file.stat().st_size for file in scripts) < SHARED_BYTES, name
        loaded |= own | images
    static = site / "_static"
    for file in (file for file in static.rglob("*") if file.suffix in (".js", ".css", ".map")):
        # Each model is loaded by its figure.
        assert file in loaded or file.parent.name == "models" or file.stat().st_size < 50_000, file
    assert sum(file.stat().st_size for file in static.rglob("*") if file.parent.name != "models") < 2 * SHARED_BYTES


def test_chapters_sections_and_figures_are_numbered_in_reading_order(soups):
    assert not soups["intro.html"].select("h1 .section-number")
    for number, name in enumerate(PAGES[1:], start=1):
        article = soups[name].select_one("article.bd-article")
        assert article.select_one("h1 .section-number").get_text() == f"{number}. ", name
        sections = [heading.get_text() for heading in article.select("h2 .section-number")]
        assert sections == [f"{number}.{place}. " for place in range(1, len(sections) + 1)], name
        figures = [figure.get_text() for figure in article.select("figcaption .caption-number")]
        assert figures == [f"Fig. {number}.{place} " for place in range(1, len(figures) + 1)], name


def test_each_figure_says_what_it_shows(soups):
    found = [(name, image) for name, page in soups.items() for image in page.select("article img")]
    assert found
    for name, image in found:
        assert " " in image["alt"] and not image["alt"].endswith(".png"), (name, image)


def test_icons_are_drawn(site, visit):
    page = visit((site / "alibi.html").as_uri())
    page.evaluate("document.fonts.ready")
    loaded = "[...document.fonts].filter(({ status }) => status === 'loaded').map(({ family }) => family).join()"
    assert "Font Awesome" in page.evaluate(loaded)
    icon = page.locator(".fa-magnifying-glass:visible").first
    assert icon.evaluate("icon => getComputedStyle(icon, '::before').content").strip('"') == "\uf002"


def test_the_printed_book_has_every_page_and_its_links_stay_within(soups, whole_book):
    document = BeautifulSoup(whole_book, "html.parser")
    titles = [page.select_one("article h1") for name, page in soups.items() if name != "api.html"]
    printed = [title.get_text() for title in document.select("article h1")]
    assert printed == [title.get_text().removesuffix("#") for title in titles]
    anchors = [tag["id"] for tag in document.find_all(id=True)]
    assert len(set(anchors)) == len(anchors)
    for link in document.find_all("a", href=True):
        target = link["href"]
        assert target.startswith(("https://", "http://", "mailto:")) or target.removeprefix("#") in anchors, link
    assert document.select_one('.book-contents a[href="#alibi"]').get_text().endswith("61")
    assert [fold for fold in document.select("details:not(.hide)") if not fold.has_attr("open")] == []
    # The styles of tables are those of their new names.
    for style in document.select("article style"):
        for name in re.findall(r"#([\w-]*T_[\w-]+)", style.string):
            assert name in anchors
    assert pdf.MOVES in document.get_text()
    assert document.select("article div.widget") and not document.select("article a:not([href])")


def test_the_printed_page_has_room_for_every_table_and_formula(site, visit, whole_book):
    document = site / pdf.DOCUMENT
    document.write_text(whole_book, encoding="utf-8")
    # A4 less its margins has 658 pixels; a few of the margin may be used.
    page = visit(document.as_uri(), width=658)
    document.unlink()
    page.emulate_media(media="print")
    page.evaluate("window.MathJax.startup.promise")
    wide = """[...document.querySelectorAll("article :is(img, pre, td, mjx-container[display] > mjx-math)")]
        .filter((box) => box.getBoundingClientRect().right > 658 + 8).map((box) => box.textContent || box.outerHTML)"""
    assert page.evaluate(wide) == []


def test_a_book_is_printed(site, browser, tmp_path):
    from pypdf import PdfReader

    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text((ROOT / "_config.yml").read_text())
    part = {"caption": "The only part", "chapters": [{"file": "try-it"}, {"file": "disagreements"}]}
    (tmp_path / "book" / "_toc.yml").write_text(yaml.safe_dump({"root": "intro", "parts": [part]}))
    before = set(site.iterdir())
    # Playwright, which drives the tests' browser in this thread, prints in another one.
    with ThreadPoolExecutor(1) as pool:
        printed = pool.submit(pdf.print_book, site, tmp_path).result()
    assert set(site.iterdir()) == before
    reader = PdfReader(printed)
    texts = [page.extract_text() for page in reader.pages]
    assert "Train Short, Test Long" in texts[0] and "Contents" in texts[1] and "The only part" in texts[1]
    titles = [entry.title for entry in reader.outline if not isinstance(entry, list)]
    assert titles == ["Train Short, Test Long", "2. Try it", "13. Where the paper disagrees with itself"]
    for entry in (entry for entry in reader.outline if not isinstance(entry, list)):
        place = reader.get_destination_page_number(entry)
        assert entry.title in texts[place]
        # The contents and the page itself name its number.
        assert f"{entry.title} {place + 1}" in texts[1].splitlines()
        assert texts[place].rstrip().endswith(str(place + 1)) or texts[place].startswith(str(place + 1))
    # A still figure stands where the site has one that moves; no control, no folded code.
    assert any(page.images for page in reader.pages)
    whole = "".join(texts)
    assert not re.search("Show the (code|set-up|parameters)|Copy", whole)
    printed.unlink()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_and_figures_follow_the_systems_colours(site, visit, scheme):
    page = visit((site / "alibi.html").as_uri(), color_scheme=scheme)
    assert page.locator("html").get_attribute("data-theme") == scheme
    figure = page.locator(".cell:not(.tag_keep-colours) > .cell_output img").first
    filters = figure.evaluate("image => getComputedStyle(image).filter")
    assert filters == ("none" if scheme == "light" else f"invert({INVERTED}) hue-rotate(180deg) brightness({BRIGHTER})")
    assert figure.evaluate("image => getComputedStyle(image).padding") == "0px", "the theme frames pictures"
    blue = figure.evaluate("image => getComputedStyle(image).getPropertyValue('--method-alibi')").strip()
    assert blue == (plots.COLOURS["alibi"] if scheme == "light" else plots.on_dark(plots.COLOURS["alibi"]))


LINKS_TO_THE_REPOSITORY = ".article-header-buttons a[href^=http], .article-header-buttons .dropdown-launch-buttons"


def test_without_an_address_no_link_needs_one(site, visit):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    if config["repository"]["url"] or config["html"]["baseurl"]:
        pytest.skip("the public address is set")
    page = visit((site / "alibi.html").as_uri())
    assert page.locator(LINKS_TO_THE_REPOSITORY).count() == 0
    assert page.locator("link[rel=canonical], footer a[href^=http]").count() == 0
    assert not (site / "sitemap.xml").exists()


def test_with_an_address_its_links_appear(visit, tmp_path):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["repository"]["url"] = "https://github.com/someone/some-book"
    config["html"]["baseurl"] = "https://someone.github.io/some-book"
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    # A book of two pages and the real configuration: the pages' content has no part in it.
    book = tmp_path / "book"
    shutil.copytree(ROOT / "book" / "_static", book / "_static")
    shutil.copy(ROOT / "book" / "headline.png", book)
    shutil.copy(ROOT / "book" / "references.bib", book)
    (book / "intro.md").write_text("# A book\n\nIts first page.\n")
    cells = [new_markdown_cell("# A chapter\n\nIts text, with $x$.\n\n![The first figure](headline.png)")]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), book / "alibi.ipynb")
    (book / "_toc.yml").write_text("format: jb-book\nroot: intro\nchapters:\n  - file: alibi\n")
    site = render(book, tmp_path / "_config.yml", tmp_path).parent
    page = visit((site / "alibi.html").as_uri())
    links = {link.get_attribute("href") for link in page.locator("a[href^=http]").all()}
    assert any(link.startswith("https://mybinder.org/v2/gh/someone/some-book/main") for link in links)
    assert "https://colab.research.google.com/github/someone/some-book/blob/main/book/alibi.ipynb" in links
    assert {
        "https://github.com/someone/some-book",
        "https://github.com/someone/some-book/blob/main/CITATION.cff",
    } <= links
    assert page.locator("link[rel=canonical]").get_attribute("href") == f"{config['html']['baseurl']}/alibi.html"
    assert f"<loc>{config['html']['baseurl']}/alibi.html</loc>" in (site / "sitemap.xml").read_text()
    assert f"{config['html']['baseurl']}/intro.html" in (site / "404.html").read_text()
    assert page.told == []
    # A page is announced by its own figure, one without by the book's.
    for name, folder in (("alibi", "_images"), ("intro", "_static")):
        soup = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        address = soup.find("meta", property="og:image")["content"]
        picture = address.removeprefix(f"{config['html']['baseurl']}/")
        assert picture == f"{folder}/headline.png" and (site / picture).is_file()
