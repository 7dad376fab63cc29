"""Text in folders, as tests write it."""

import gzip
import lzma

from backports import zstd
from loopback_hub import parquet

COMPRESS = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress, ".zst": zstd.compress}


def write(folder, ending=".tokens", **texts):
    """Splits as files of a folder; a .parquet has a row a line."""
    folder.mkdir(parents=True, exist_ok=True)
    kind, _, compression = ending.removeprefix(".").partition(".")
    for split, text in texts.items():
        content = text.encode()
        if kind == "parquet":
            content = parquet(text.removesuffix("\n").split("\n"))
        (folder / f"{split}{ending}").write_bytes(COMPRESS[compression and f".{compression}"](content))
