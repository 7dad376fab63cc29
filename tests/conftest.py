"""What several test files share: the checkout, its chapters, the site as built from the stored notebooks, a browser."""

import os
import re
import signal
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Files run side by side, a core each. torch reads it when it is imported, in the processes that tests start too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import torch
from forked import HANGS_AFTER
from torch.utils._python_dispatch import TorchDispatchMode

# No test depends on what its caller has set for other work.
CALLERS_DATA = os.environ.pop("ALIBI_DATA", None)
for name in ("ALIBI_RESULTS", "ALIBI_SMOKE", "COLUMNS"):
    os.environ.pop(name, None)
ROOT = Path(__file__).resolve().parent.parent
# Processes that tests start elsewhere import this checkout, whichever one is installed.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

# No verdict depends on how fast the machine is.
PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("patient", **PATIENT)
hypothesis.settings.load_profile("patient")


class Sizes(TorchDispatchMode):
    """Notes the number of elements of each tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.found = {0}

    @property
    def largest(self):
        return max(self.found)

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        for made in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(made, torch.Tensor):
                self.found.add(made.numel())
        return out


THREADS = torch.get_num_threads()
# A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP; processes that tests start would
# inherit that, and be deaf to the signals that they are sent.
for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def process_as_it_started():
    """Each test finds threads, treatment of small numbers and random state as torch has them when it starts.

    Training sets them for its process. A test that follows one must not depend on it.
    """
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(False)
    torch.manual_seed(0)


def texts(notebook):
    """What a chapter says: Markdown cells and captions of figures in order, badges left out, terms as they read."""
    captions = {cell.id: cell.metadata.get("mystnb", {}).get("figure", {}).get("caption") for cell in notebook.cells}
    found = [cell.source if cell.cell_type == "markdown" else captions[cell.id] for cell in notebook.cells]
    without = [re.sub(r"\{badge\}`\w+` *", "", text) for text in found if text]
    return [re.sub(r"\{term\}`([^`<]+?)(?:\s+<[^>]+>)?`", r"\1", text) for text in without]


def page_models():
    """Models of the shape of those in the page, untrained: stored chapters do not hold the trained ones."""
    from alibi.book.page_model import METHODS
    from alibi.model import Decoder, ModelConfig

    torch.manual_seed(0)
    return {name: Decoder(ModelConfig(name, 4096, layers=3, width=96, heads=8, feedforward=384)) for name in METHODS}


def warnings(capsys):
    """The package's warnings since the last call, without the word itself."""
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder that ALIBI_DATA names; the cache is an empty one."""
    monkeypatch.setenv("ALIBI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ALIBI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, built once from the chapters as they are stored, also for files that run side by side."""
    from alibi.book.build import render
    from alibi.book.page_model import model_script, vocabulary_script
    from alibi.corpora.corpus import load
    from alibi.files import locked

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    folder.mkdir(exist_ok=True)
    site, whole = folder / "_build" / "html", folder / "whole"
    with locked(folder / "lock"):
        if not whole.exists():
            render(ROOT / "book", ROOT / "_config.yml", folder)
            (site / "_static" / "models").mkdir()
            scripts = {name: model_script(model) for name, model in page_models().items()}
            for name, text in (scripts | {"vocabulary": vocabulary_script(load("wikipedia-sample"))}).items():
                (site / "_static" / "models" / f"{name}.js").write_text(text, encoding="utf-8")
            whole.touch()
    return site


@pytest.fixture(scope="session")
def browser():
    from alibi.book import pdf

    try:
        executable = pdf.browser()
    except pdf.PdfError as missing:
        pytest.fail(str(missing)) if os.environ.get("CI") else pytest.skip(str(missing))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=pdf.FLAGS, timeout=1000 * HANGS_AFTER)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens a page of a site and returns it, with `told`: what it asked the network for and what went wrong."""
    opened = []

    def visit(address, width=1400, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        opened.append(page)
        page.set_default_timeout(1000 * HANGS_AFTER)
        page.told = []
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or page.told.append(request.url))
        page.on("requestfailed", lambda request: page.told.append(f"failed: {request.url}"))
        page.on("console", lambda message: message.type == "error" and page.told.append(message.text))
        page.on("pageerror", lambda error: page.told.append(str(error)))
        page.goto(address)
        return page

    yield visit
    for page in opened:
        page.close()
