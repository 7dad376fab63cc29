"""The book as one PDF: a cover, the contents, and the pages of the built site in reading order, printed by Chromium.

The package's page is left out: it would be a third of the book, and repeats docstrings that the site and the code have.
"""

import shutil
from collections.abc import Iterator, Mapping
from html import escape
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag

import yaml
from bs4 import BeautifulSoup, Tag

from alibi.errors import UserError, bounded
from alibi.paths import checkout

if TYPE_CHECKING:
    from pypdf import PdfWriter

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Without these a headless browser asks the network for itself, page or no page.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MILLISECONDS = 600_000
"""Longer than a slow machine takes for the formulas of the whole book."""
DOCUMENT = "all-pages.html"
LEFT_OUT = ("api",)
"""Pages of the site that the PDF lacks."""
MOVES = "This figure moves, and it has no still state: the book's site shows it."


class PdfError(UserError, RuntimeError):
    """The PDF can't be printed: a package or a browser is missing, or the browser fails."""


def browser() -> str:
    """The path of the Chromium that prints.

    Raises:
        PdfError: without one of `BROWSERS`, playwright or pypdf.
    """
    if missing := [name for name in ("playwright", "pypdf") if find_spec(name) is None]:
        raise PdfError(f"the PDF needs the package {' and '.join(missing)}: pip install 'alibi-book[pdf]'")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise PdfError(f"the PDF needs a browser, one of {', '.join(BROWSERS)}: apt-get install chromium")
    return found


def print_book(site: Path, root: Path | None = None) -> Path:
    """Prints the built site into one PDF beside it and returns its path.

    Args:
        site: folder of the built site.
        root: folder with `_config.yml` and `book/_toc.yml`; None is this checkout.

    Raises:
        PdfError: as `browser`, and if the browser fails; an older PDF stays then.
    """
    root = root or checkout()
    assert root is not None, "a site that was built has a checkout"
    executable = browser()
    from playwright.sync_api import Error, sync_playwright
    from pypdf import PdfReader, PdfWriter

    config, toc = (yaml.safe_load((root / name).read_text("utf-8")) for name in ("_config.yml", "book/_toc.yml"))
    # Beside the pages, whose pictures and styles it shows.
    document = site / DOCUMENT
    target = site.parent / f"{config['title'].lower().replace(',', '').replace(' ', '-')}.pdf"
    unfinished = target.with_suffix(".unfinished.pdf")
    numbers: dict[str, int] = {}
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=executable, args=FLAGS, timeout=MILLISECONDS)
            # The first time tells the pages that the contents then name.
            for _ in range(2):
                document.write_text(_document(site, config, toc, numbers), encoding="utf-8")
                page = opened.new_page(color_scheme="light")
                page.set_default_timeout(MILLISECONDS)
                page.goto(document.as_uri())
                page.evaluate("window.MathJax.startup.promise")
                page.pdf(path=unfinished, prefer_css_page_size=True, outline=True, tagged=True)
                page.close()
                printed = PdfReader(unfinished)
                for name, place in printed.named_destinations.items():
                    numbers[name.removeprefix("/")] = (printed.get_destination_page_number(place) or 0) + 1
            opened.close()
        # Chromium's objects stay as they are numbered; only the changed titles are appended.
        written = PdfWriter(unfinished, incremental=True)
        _name_outline(written, BeautifulSoup(document.read_text("utf-8"), "html.parser"))
        written.write(unfinished)
        unfinished.replace(target)
    except Error as wrong:
        raise PdfError(f"{executable} could not print the book: {bounded(str(wrong))}") from wrong
    finally:
        document.unlink(missing_ok=True)
        unfinished.unlink(missing_ok=True)
    return target


def _name_outline(written: "PdfWriter", document: BeautifulSoup) -> None:
    """Gives the PDF's outline the text of the headings: Chromium tells that of one at the end of a page twice."""
    from pypdf.generic import NameObject, TextStringObject

    headings = [heading.get_text() for heading in document.select("h1, h2, h3, h4, h5, h6")]
    for entry, heading in zip(_entries(written.root_object["/Outlines"]), headings, strict=True):
        # Chromium has drawn the formulas.
        if "\\(" not in heading:
            entry[NameObject("/Title")] = TextStringObject(heading)


def _entries(parent: Any) -> Iterator[Any]:
    """The entries of an outline below this one, in their order."""
    entry = parent.get("/First")
    while entry is not None:
        found = entry.get_object()
        yield found
        yield from _entries(found)
        entry = found.get("/Next")


def _parts(toc: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The caption of each part, empty for the first page alone, and the names of its pages that are printed."""
    yield "", [toc["root"]]
    for part in toc["parts"]:
        yield part["caption"], [entry["file"] for entry in part["chapters"] if entry["file"] not in LEFT_OUT]


def _document(site: Path, config: Mapping[str, Any], toc: Mapping[str, Any], numbers: Mapping[str, int]) -> str:
    """The HTML of cover, contents and all pages, whose links lead to each other within it.

    Args:
        site: as `print_book`.
        config: of `_config.yml`.
        toc: of `book/_toc.yml`.
        numbers: of the printed page that each chapter begins on; empty while they are not known.
    """
    parts = list(_parts(toc))
    names = [name for _, part in parts for name in part]
    pages = {name: BeautifulSoup((site / f"{name}.html").read_text("utf-8"), "html.parser") for name in names}
    first = pages[names[0]]
    styles = "".join(str(link) for link in first.select("head link[rel=stylesheet]"))
    # MathJax and what it is told; no other script, so that the still figures stand.
    scripts = "".join(str(script) for script in first.find_all("script") if "mathjax" in str(script).lower())
    articles = {name: _article(page, name, names) for name, page in pages.items()}
    contents = []
    for caption, part in parts:
        contents += [f'<p class="part">{escape(caption)}</p>'] if caption else []
        for name in part:
            title = articles[name].find("h1")
            assert isinstance(title, Tag)
            told = f"<span>{escape(title.get_text())}</span><span>{numbers.get(name, '')}</span>"
            contents.append(f'<a href="#{name}">{told}</a>')
    about = f"{config['author']}<br>Version {version('alibi-book')}, {config['copyright']}<br>Text: CC BY 4.0"
    # The PDF's outline lists the headings: the cover and the contents have none.
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{escape(config["title"])}</title>
{styles}{scripts}</head><body class="whole-book"><main class="bd-content">
<section class="cover"><p class="title">{escape(config["title"])}</p><p>The executable book</p>
<img src="_static/headline.png" alt="The book's first figure"><p>{about}</p></section>
<nav class="book-contents" aria-label="Contents"><p class="title">Contents</p>{"".join(contents)}</nav>
{"".join(f'<article class="bd-article">{article}</article>' for article in articles.values())}
</main></body></html>"""


def _article(page: BeautifulSoup, name: str, names: list[str]) -> Tag:
    """The text of a page, its anchors named after the page too, all unfolded but code."""
    article = page.select_one("article.bd-article > section")
    assert article is not None
    for link in article.select("a.headerlink"):
        link.decompose()
    for anchor in [article, *article.find_all(id=True)]:
        anchor["id"] = f"{name}--{anchor['id']}"
    # A table's own style names its id.
    for style in article.select("style"):
        style.string = (style.string or "").replace("#T_", f"#{name}--T_")
    for widget in article.select("div.widget"):
        cell = widget.find_parent(class_="cell")
        before = cell and cell.find_previous_sibling()
        if not (isinstance(before, Tag) and before.select_one("figure img")):
            note = page.new_tag("p")
            note.string = MOVES
            widget.replace_with(note)
    title = article.find("h1")
    assert isinstance(title, Tag)
    title["id"] = name
    for link in article.find_all("a", href=True):
        address, fragment = urldefrag(str(link["href"]))
        if "://" in address or address.startswith("mailto:"):
            continue
        other = address.removesuffix(".html") if address else name
        if other in names:
            link["href"] = f"#{other}--{fragment}" if fragment else f"#{other}"
        else:
            # To a file of the site, such as the index.
            link.unwrap()
    for folded in article.select("details:not(.hide)"):
        folded["open"] = ""
    return article
