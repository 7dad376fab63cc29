"""A process that loads corpora from a hub on loopback, and the small WikiText that such a hub holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

from forked import HANGS_AFTER
from loopback_hub import parquet

from alibi.corpora.hub import HUB

ROOT = Path(__file__).resolve().parent.parent
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
WIKITEXT = HUB["wikitext-103"]

# A process that loads from a hub: the libraries read their settings when they are imported. Whatever it does, no socket
# of it gets further than 127.0.0.1, and what was tried is told.
CHILD = r"""
import json, os, sys

left = []

def guard(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if host != "127.0.0.1":
        left.append(str(host))
        raise OSError(f"{host} is not on loopback")

sys.addaudithook(guard)
order = json.loads(sys.argv[1])
from dataclasses import replace
from alibi.corpora import bert, corpus, hub
from alibi.corpora.hub import HUB
exec(order["before"])
told = []
for load in order["loads"]:
    os.environ |= load.pop("environment", {})
    exec(load.pop("before", ""))
    try:
        found = corpus.load(**load)
    except Exception as error:
        told.append({"error": type(error).__name__, "message": str(error)})
        continue
    told.append({
        "source": found.source,
        "tokenisation": found.tokenisation,
        "text": {split: found.text(split) for split in found.splits},
        "ids": {split: found.split(split).tokens.tolist() for split in found.splits},
        "words": {split: found.splits[split].words for split in found.splits},
        "unknown": {split: found.splits[split].unknown for split in found.splits},
        "size": found.vocabulary_size,
        "name": found.name,
        "symbols": getattr(found.vocabulary, "symbols", None),
    })
print(json.dumps({"loads": told, "left": left}))
"""


def environment(address, tmp_path, **more):
    """Of a child: nothing of the caller's that could lead elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "ALIBI_"))}
    return {
        **kept,
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": str(HANGS_AFTER),
        "HF_HUB_DOWNLOAD_TIMEOUT": str(HANGS_AFTER),
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "USE_TORCH": "0",  # or streaming imports torch, to ask it whether a loader of its own is at work
        "ALIBI_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "*",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        **more,
    }


def ask(address, tmp_path, *loads, before="", **more):
    """What a process tells of these loads, the keyword arguments of `corpus.load`; nothing may leave loopback."""
    order = json.dumps({"loads": loads, "before": before})
    child = subprocess.run(
        [sys.executable, "-c", CHILD, order],
        cwd=tmp_path,
        env=environment(address, tmp_path, **more),
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER,
    )
    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout.splitlines()[-1])
    assert told["left"] == []
    return told["loads"]


def refused(told):
    """The one line of a refusal."""
    assert told.get("error") == "CorpusError", told
    return told["message"]


def unbuilt(cache):
    """Whether nothing in the cache can pass for a corpus."""
    return not list(cache.glob("corpora/*/manifest.json")) and not list(cache.glob("corpora/[!.]*"))


def sized(counts, entries):
    """Of the child: these are the published numbers of WikiText-103."""
    return f"HUB['wikitext-103'] = replace(HUB['wikitext-103'], sizes={counts}, vocabulary_size={entries})"


ROWS = {
    "train": ["", " = Ships = \n", "", " the ship sails the sea , the <unk> sea \n", " The ship \n", ""],
    "validation": ["", " = Rafts = \n", " the raft sails \n"],
    "test": [" the <unk> sea \n", ""],
}
TEXT = {
    "train": "\n = Ships = \n\n the ship sails the sea , the <unk> sea \n The ship \n\n",
    "valid": "\n = Rafts = \n the raft sails \n",
    "test": " the <unk> sea \n\n",
}
# By falling count, ties by code point: the 3, = sea ship 2, then those seen once; <unk> is id 3 and no entry besides.
SYMBOLS = [*SPECIAL, "the", "=", "sea", "ship", ",", "Ships", "The", "sails"]
SYMBOLS += [f"madeupword{number:04}" for number in range(4)]
IDS = {
    "train": [2, 5, 9, 5, 2, 2, 4, 7, 11, 4, 6, 8, 4, 3, 6, 2, 10, 7, 2, 2],
    "valid": [2, 5, 3, 5, 2, 4, 3, 11, 2],
    "test": [4, 3, 6, 2, 2],
}
COUNTS = {split: len(ids) for split, ids in IDS.items()}
TOY = sized(COUNTS, len(SYMBOLS))
AT_ONCE = "import time; time.sleep = lambda seconds: None"  # the libraries wait before they try again


def card(configuration, rows):
    """The README.md of a data set with one configuration, as on the hub: files and sizes of its splits."""
    lines = ["---", "dataset_info:", f"- config_name: {configuration}", "  features:", "  - name: text"]
    lines += ["    dtype: string", "  splits:"]
    for split, texts in rows.items():
        size = sum(len(text.encode()) + 4 for text in texts)
        lines += [f"  - name: {split}", f"    num_bytes: {size}", f"    num_examples: {len(texts)}"]
    lines += ["configs:", f"- config_name: {configuration}", "  data_files:"]
    for split in sorted(rows):
        lines += [f"  - split: {split}", f"    path: {configuration}/{split}-*"]
    return "\n".join([*lines, "---", "", "# A data set", ""]).encode()


def add_wikitext(hub, rows=ROWS, column="text", revision=WIKITEXT.revision, with_card=True, rows_a_group=None):
    files = {
        f"wikitext-103-v1/{split}-00000-of-00001.parquet": parquet(texts, column, rows_a_group)
        for split, texts in rows.items()
    }
    readme = card("wikitext-103-v1", rows)
    if not with_card:  # without dataset_info: the columns are those of the files
        readme = b"---\nconfigs:" + readme.split(b"\nconfigs:")[1]
    hub.add(WIKITEXT.repository, {"README.md": readme} | files, revision)
