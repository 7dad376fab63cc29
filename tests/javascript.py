"""Runs a function of the scripts of moving figures, in node or in the browser."""

import json
import shutil
import subprocess

import pytest
from forked import HANGS_AFTER

from alibi.book.widgets import FOLDER, MARK, scripts

NODE = """
const fs = require("fs"), vm = require("vm");
const [files, expression, given] = JSON.parse(fs.readFileSync(0, "utf8"));
for (const file of files) vm.runInThisContext(fs.readFileSync(file, "utf8"), file);
process.stdout.write(JSON.stringify(vm.runInThisContext(expression)(given)));
"""


def in_node(files, expression, given):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the browser's tests run the same scripts")
    text = json.dumps([[str(file) for file in files], expression, given])
    done = subprocess.run([node, "-e", NODE], input=text, capture_output=True, text=True, timeout=HANGS_AFTER)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_browser(request):
    browser = request.getfixturevalue("browser")

    def run(files, expression, given):
        page = browser.new_page()
        page.set_default_timeout(1000 * HANGS_AFTER)
        for file in files:
            page.add_script_tag(path=file)
        # As text, as from node: a page would hand out -0 and infinity too.
        found = page.evaluate(f"given => JSON.stringify(({expression})(given))", given)
        page.close()
        return json.loads(found)

    return run


def files_of(name):
    """The scripts of the figure of this name, in the order in which a page loads them."""
    return [FOLDER / script for script in scripts(MARK.format(name))]
