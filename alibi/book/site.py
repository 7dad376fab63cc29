"""A Sphinx extension, named in `_config.yml`: no network, buttons with a target, figures that move, dark pages."""

import base64
import re
import shutil
from html import escape, unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

from alibi.book import badges, plots, reference, widgets

# This file holds every TeX package; the smaller ones fetch a package when a page first uses it.
MATHJAX = "tex-chtml-full.js"
MATHJAX_FONTS = "output/chtml/fonts/woff-v2"
STYLE = "widgets.css"
COLOURS = "colours.css"
# Characters of a page's description: search engines show about this number.
DESCRIPTION = 200
CARD = "headline.png"
CARD_FILE = f"_static/{CARD}"
READING = Path(__file__).with_name("reading.js")
# Files of _static that no page loads, from the theme and its tools: maps of sources, translations, old fonts.
UNUSED = ("**/*.map", "**/*.ttf", "locales", "*webpack-macros.html")
# The theme draws each icon by a font, and again by a script of 1.4 MB.
ICONS, ICONS_SCRIPT = "vendor/fontawesome/webfonts/fa-solid-900.woff2", "scripts/fontawesome.js"
THEME_STYLE = "styles/pydata-sphinx-theme.css"
MISSING = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>No such page</title>
<p>There is no such page. <a href="{address}/intro.html">The book begins here.</a></p></html>
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the extension with Sphinx.

    Raises:
        ExtensionError: if the package that holds MathJax is not installed.
    """
    _mathjax_folder()
    reference.setup(app)
    badges.setup(app)
    app.add_js_file(READING.name, loading_method="defer")
    app.connect("config-inited", _configure)
    app.connect("builder-inited", _add_widgets)
    app.connect("doctree-resolved", _offer_files)
    app.connect("html-page-context", _use_widgets)
    app.connect("doctree-resolved", _tell_terms)
    app.connect("html-page-context", _name_roles)
    app.connect("html-page-context", _describe)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _configure(app: Sphinx, config: Config) -> None:
    config.mathjax_path = f"mathjax/{MATHJAX}"
    options = config.html_theme_options
    if repository := options.get("repository_url"):
        branch = options["repository_branch"]
        options |= {
            "use_repository_button": True,
            "use_issues_button": True,
            "launch_buttons": {
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
                "notebook_interface": "jupyterlab",
            },
            "extra_footer": f'<a href="{repository}/blob/{branch}/CITATION.cff">Cite this book</a>',
        }


def _add_widgets(app: Sphinx) -> None:
    """Copies the scripts and writes the methods' colours, before Sphinx takes checksums of the pages' files."""
    folder = Path(app.outdir) / "_static" / "widgets"
    folder.mkdir(parents=True, exist_ok=True)
    for file in [*widgets.FOLDER.glob("*.js"), widgets.FOLDER / STYLE]:
        shutil.copyfile(file, folder / file.name)
    shutil.copyfile(READING, folder.parent / READING.name)
    rules = []
    for mode, seen in ((":root", str), ('html[data-theme="dark"]', plots.on_dark)):
        colours = [f"--method-{name}: {seen(colour)};" for name, colour in plots.COLOURS.items()]
        rules.append("\n  ".join([f"{mode} {{", *colours]) + "\n}\n")
    (folder / COLOURS).write_text("".join(rules), encoding="utf-8")


def _offer_files(app: Sphinx, document: nodes.document, page: str) -> None:
    """Ends each figure's caption with links to its drawing and its numbers, if the chapters' execution left them."""
    folder = Path(app.srcdir) / widgets.SITE_FOLDER / widgets.FIGURE_FOLDER
    for figure in document.findall(nodes.figure):
        for caption in figure.findall(nodes.caption):
            files = [f"{name}.{kind}" for name in figure["ids"] for kind in ("svg", "csv")]
            for file in [file for file in files if (folder / file).is_file()]:
                address, kind = f"_static/{widgets.FIGURE_FOLDER}/{file}", file[-3:].upper()
                link = f' <a class="figure-file" href="{address}" download>{kind}</a>'
                caption += nodes.raw("", link, format="html")


def _use_widgets(app: Sphinx, page: str, template: str, context: dict[str, Any], document: object) -> None:
    """Makes a page load the scripts of its figures, after its text."""
    if needed := widgets.scripts(context.get("body", "")):
        for style in (COLOURS, STYLE):
            app.add_css_file(f"widgets/{style}")
        for script in needed:
            app.add_js_file(f"widgets/{script}", loading_method="defer")


def _tell_terms(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Gives a link to a word of the glossary the word's entry as its title."""
    if "glossary" not in app.env.found_docs:
        return
    entries: dict[str, str] = {}
    for item in app.env.get_doctree("glossary").findall(nodes.definition_list_item):
        definition = item.next_node(nodes.definition)
        # Citations have no text yet.
        for citation in list(definition.findall(pending_xref)):
            if citation["refdomain"] == "cite":
                citation.parent.remove(citation)
        told = re.sub(r"\s+([.,:;])", r"\1", " ".join(definition.astext().split()))
        entries |= {name: told for term in item.findall(nodes.term) for name in term["ids"]}
    for link in tree.findall(nodes.reference):
        address, _, name = link.get("refuri", "").partition("#")
        if address == "glossary.html" and name in entries:
            link["reftitle"] = entries[name]


def _name_roles(app: Sphinx, page: str, template: str, context: dict[str, Any], document: object) -> None:
    """Makes the references of a bibliography items of its list: docutils gives them a role that ARIA took back."""
    context["body"] = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')


def _describe(app: Sphinx, page: str, template: str, context: dict[str, Any], document: object) -> None:
    """Describes a page for search engines and previews of links: title without a number, first paragraph, first figure.

    If the page opens with a box, the first paragraph after it counts. A page without a figure has the book's card.
    """
    body = re.sub(r'<div class="[^"]*\badmonition\b.*?</div>', "", context.get("body", ""), flags=re.DOTALL)
    paragraph = re.search(r"<p>(.*?)</p>", body, re.DOTALL)
    if paragraph is None:
        return
    text = " ".join(unescape(re.sub(r"<[^>]*>", "", paragraph[1])).split())
    told = text if len(text) <= DESCRIPTION else text[:DESCRIPTION].rsplit(" ", 1)[0] + " …"
    title = re.sub(r'<span class="section-number">.*?</span>', "", context["title"])
    shown = {
        "og:title": unescape(re.sub(r"<[^>]*>", "", title)),
        "og:description": told,
        "og:type": "article",
    }
    if address := app.config.html_baseurl.rstrip("/"):
        figure = re.search(r'<img [^>]*\bsrc="(_images/[^"]+\.png)"', body)
        shown |= {"og:url": f"{address}/{page}.html", "og:image": f"{address}/{figure[1] if figure else CARD_FILE}"}
    tags = [f'<meta property="{name}" content="{escape(content)}" />' for name, content in shown.items()]
    tags.append(f'<meta name="description" content="{escape(told)}" />')
    context["metatags"] = "\n".join([context.get("metatags", ""), *tags])


def _finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    source, target = _mathjax_folder(), site / "_static" / "mathjax"
    for file in [source / MATHJAX, *(source / MATHJAX_FONTS).glob("*.woff")]:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    if (given := Path(app.srcdir) / widgets.SITE_FOLDER).is_dir():
        # Only now: the theme would load every script that it finds in _static, on each page.
        shutil.copytree(given, site / "_static", dirs_exist_ok=True)
    if (card := Path(app.srcdir) / CARD).is_file():
        shutil.copyfile(card, site / CARD_FILE)
    _make_small(site)
    address, names = app.config.html_baseurl.rstrip("/"), sorted(app.env.found_docs)
    at = f"{address}/" if address else ""
    listed = [f"- [{app.env.titles[name].astext()}]({at}{name}.html)" for name in names]
    (site / "llms.txt").write_text("\n".join([f"# {app.config.project}", "", *listed, ""]), encoding="utf-8")
    if address:
        pages = [f"<url><loc>{address}/{name}.html</loc></url>" for name in names]
        opening = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        (site / "sitemap.xml").write_text("\n".join([opening, *pages, "</urlset>", ""]), encoding="utf-8")
        (site / "404.html").write_text(MISSING.format(address=address), encoding="utf-8")


def _make_small(site: Path) -> None:
    """Removes what no page loads. The icons go into the style: Firefox reads no font from beside a page of a disk."""
    static = site / "_static"
    for file in [file for pattern in UNUSED for file in static.glob(pattern)]:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    (static / ICONS_SCRIPT).unlink()
    style, icons = static / THEME_STYLE, static / ICONS
    font = f"data:font/woff2;base64,{base64.b64encode(icons.read_bytes()).decode()}"
    style.write_text(style.read_text(encoding="utf-8").replace(f"../{ICONS}", font), encoding="utf-8")
    icons.unlink()
    script = re.compile(rf'<script[^>]*src="[^"]*{ICONS_SCRIPT}[^"]*"[^>]*></script>')
    for page in site.glob("*.html"):
        page.write_text(script.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")


def _mathjax_folder() -> Path:
    found = find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise ExtensionError("equations need the package sphinx-mathjax-offline: pip install sphinx-mathjax-offline")
    return Path(found.origin).parent / "static" / "mathjax"
