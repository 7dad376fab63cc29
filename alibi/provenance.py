"""The machine and the code of a measurement, as its record names them."""

import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch

from alibi.device import device_name
from alibi.paths import checkout


@cache
def commit() -> str:
    """The commit of the checkout, with "+" for changed files; "not a checkout" for an installed wheel."""
    root = checkout()
    if root is None:
        return "not a checkout"

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=True).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()).resolve() != root.resolve():
            return "not a checkout"  # A repository around a copy of the sources has commits of its own.
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", "alibi") else "")
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"


def provenance(device: str) -> dict[str, str]:
    """The machine and code of a measurement: device, torch version, commit, date (UTC)."""
    return {
        "device": device_name(device),
        "torch_version": torch.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }
