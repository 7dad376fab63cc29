"""The role `badge` of the chapters: where the numbers of a figure come from, as a link to what the glossary says of it.

{badge}`live`  ->  LIVE, with the class badge-live
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole


class Badge(SphinxRole):
    """A word of the glossary in a frame; one that the glossary lacks is a warning, which fails the build."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The link, which Sphinx resolves when it has read the glossary."""
        shown = nodes.inline(self.text, self.text.upper(), classes=["badge-source", f"badge-{self.text}"])
        link = pending_xref(self.rawtext, shown, refdomain="std", reftype="term", reftarget=self.text, refwarn=True)
        link["refdoc"] = self.env.docname
        return [link], []


def setup(app: Sphinx) -> None:
    """Registers the role with Sphinx."""
    app.add_role("badge", Badge())
