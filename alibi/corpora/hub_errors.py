"""Why the hub did not give what was asked for, in words that are true of the case.

The libraries tell several cases by one error, and drop the one that it came from; its name is left in their words.
"""

import re
from collections.abc import Iterator

from alibi.corpora.source import CorpusError
from alibi.errors import told

_REFUSED = "the hub gives it only to accounts with access: ask on its page there, then log in (hf auth login)"
_UNKNOWN = "the hub has no such repository, revision, split or file"
# The first that is found among the errors' names and words.
_MEANINGS = {
    r"OfflineModeIsEnabled": "HF_HUB_OFFLINE forbids to ask the hub, and no copy is here",
    r"GatedRepo|gated dataset": _REFUSED,
    r"\b(?:Dataset|Repository|Revision|(?:Remote)?Entry)NotFound": _UNKNOWN,
    r"(?:Unknown|Bad) split|BuilderConfig \S+ not found": _UNKNOWN,
    r"\b40[13]\b": _REFUSED,
    r"\b404\b": _UNKNOWN,
    r"\b407\b|ProxyError": "a proxy stands between here and the hub, and lets nothing through",
    r"\b429\b": "the hub was asked too often: try again later",
    r"\b5\d\d\b": "the hub has a fault of its own: try again later",
    r"Connect|Timeout|gaierror|LocalEntryNotFound": "the hub can't be reached: there is no network, or a firewall",
}


def reason(error: BaseException) -> str:
    """What kept a text of the hub away, and the libraries' own words in parentheses."""
    if isinstance(error, CorpusError):
        return str(error)
    words = " ".join(_words(error))
    meaning = next((meaning for sign, meaning in _MEANINGS.items() if re.search(sign, words)), "it can't be used")
    return f"{meaning} ({told(error)})"


def _words(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        status = getattr(getattr(error, "response", None), "status_code", "")
        yield f"{type(error).__name__} {status} {error}"
        error = error.__cause__ or error.__context__
