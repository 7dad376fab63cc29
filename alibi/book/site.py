"""A Sphinx extension, named in `_config.yml`: the site needs no network, and all its buttons have a target."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

# This one file holds every TeX package; the smaller ones fetch a package when a page first uses it.
MATHJAX = "tex-chtml-full.js"
MATHJAX_FONTS = "output/chtml/fonts/woff-v2"
# Figures are drawn for a white page. Other sites of the same theme and host may have stored another mode.
LIGHT_MODE = 'document.documentElement.dataset.mode = document.documentElement.dataset.theme = "light";'


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the extension with Sphinx.

    Raises:
        ExtensionError: if the package that holds MathJax is not installed.
    """
    _mathjax_folder()
    app.add_js_file(None, body=LIGHT_MODE)
    app.connect("config-inited", _configure)
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
            "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
            "extra_footer": f'<a href="{repository}/blob/{branch}/CITATION.cff">Cite this book</a>',
        }


def _finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    source, target = _mathjax_folder(), site / "_static" / "mathjax"
    for file in [source / MATHJAX, *(source / MATHJAX_FONTS).glob("*.woff")]:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    if address := app.config.html_baseurl:
        pages = [f"<url><loc>{address.rstrip('/')}/{name}.html</loc></url>" for name in sorted(app.env.found_docs)]
        opening = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        (site / "sitemap.xml").write_text("\n".join([opening, *pages, "</urlset>", ""]), encoding="utf-8")


def _mathjax_folder() -> Path:
    found = find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise ExtensionError("equations need the package sphinx-mathjax-offline: pip install sphinx-mathjax-offline")
    return Path(found.origin).parent / "static" / "mathjax"
