"""The reason why the hub did not give a file, in words that fit the case.

The libraries raise one error for several cases and drop its cause; only the cause's name is left in their message.
"""

import re
from collections.abc import Iterator

from alibi.corpora.source import CorpusError
from alibi.errors import told

_REFUSED = "the hub gives it only to accounts with access: ask on its page there, then log in (hf auth login)"
UNKNOWN = "the hub has no such repository, revision, split or file"
STATUS = re.compile(r"\b([1-5]\d\d) (?:Client|Server) Error\b")
# The first pattern that the errors' names and words match counts.
_MEANINGS = {
    r"OfflineModeIsEnabled": "HF_HUB_OFFLINE forbids access to the hub, and there is no copy here",
    r"GatedRepo|gated dataset": _REFUSED,
    r"\b(?:Dataset|Repository|Revision|(?:Remote)?Entry)NotFound": UNKNOWN,
    r"(?:Unknown|Bad) split|BuilderConfig \S+ not found": UNKNOWN,
    r"\bstatus 40[13]\b": _REFUSED,
    r"\bstatus 404\b": UNKNOWN,
    r"\bstatus 407\b|ProxyError": "a proxy stands between here and the hub, and lets nothing through",
    r"\bstatus 429\b": "the hub was asked too often: try again later",
    r"\bstatus 5\d\d\b": "the hub has a fault of its own: try again later",
    r"Connect|Timeout|gaierror|LocalEntryNotFound": "the hub can't be reached: there is no network, or a firewall",
}


def reason(error: BaseException) -> str:
    """The reason why a text of the hub is missing, with the libraries' own words in parentheses."""
    if isinstance(error, CorpusError):
        return str(error)
    words = " ".join(_words(error))
    meaning = next((meaning for sign, meaning in _MEANINGS.items() if re.search(sign, words)), "it can't be used")
    return f"{meaning} ({told(error)})"


def _words(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        status = getattr(getattr(error, "response", None), "status_code", None)
        # Other numbers in a message are places in a file.
        named = STATUS.search(str(error)) if status is None else None
        yield f"{type(error).__name__} status {named[1] if named else status} {error}"
        error = error.__cause__ or error.__context__
