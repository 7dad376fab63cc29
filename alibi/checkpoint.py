"""Checkpoints that are whole or absent, checked before they are used, and hold no pickle.

A checkpoint is a folder named by its step: `tensors.safetensors` (weights, optimiser state, random states),
`facts.json` (everything else) and `manifest.json` (SHA-256 of both). It is written beside its place, synchronised to
the disk and renamed, so that a process that ends at any moment leaves the one before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alibi.progress import say

TENSORS, FACTS, MANIFEST = "tensors.safetensors", "facts.json", "manifest.json"
UNFINISHED = ".part"


class CheckpointError(RuntimeError):
    """A checkpoint can't be written, or none of those there are can be read."""


@dataclass(frozen=True)
class Checkpoint:
    """A state to go on from."""

    step: int
    """Optimiser steps done."""
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Has `write` make a file that is at `path` whole or not at all, whenever the process or the machine ends."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        write(temporary)
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Writes a checkpoint into the folder and removes all but the newest `keep`.

    Raises:
        CheckpointError: if it can't be written, a full disk for example; those that were there stay.
    """
    place = folder / f"{checkpoint.step:09}"
    temporary = folder / f"{place.name}.{os.getpid()}{UNFINISHED}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(left)
        temporary.mkdir()
        save_file(checkpoint.tensors, temporary / TENSORS)
        (temporary / FACTS).write_text(json.dumps(checkpoint.facts), encoding="utf-8")
        manifest = {name: _sha256(temporary / name) for name in (TENSORS, FACTS)}
        (temporary / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for name in (TENSORS, FACTS, MANIFEST):
            _to_disk(temporary / name)
        _to_disk(temporary)
        if place.exists():  # One of this step that could not be read.
            shutil.rmtree(place)
        temporary.rename(place)
        _to_disk(folder)
    except (OSError, SafetensorError) as wrong:
        shutil.rmtree(temporary, ignore_errors=True)
        there = ", ".join(str(number) for number in steps(folder)) or "none"
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} can't be written into {folder}: {wrong}. "
            f"Checkpoints that are there: {there}. With room made, the same command goes on from the last"
        ) from wrong
    for older in steps(folder)[:-keep]:
        shutil.rmtree(folder / f"{older:09}")


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in the folder, whole or not, rising."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is as it was written, None if the folder has none at all.

    One that is not is passed over with a warning on stderr that names it and the one that is used instead.

    Raises:
        CheckpointError: if there are checkpoints and none is as it was written; nothing is changed.
    """
    faults: list[str] = []
    for step in reversed(steps(folder)):
        place = folder / f"{step:09}"
        try:
            found = _read(place, step)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as wrong:
            faults.append(f"checkpoint {place} can't be used ({type(wrong).__name__}: {wrong})")
            continue
        for message in faults:
            say(f"warning: {message}; going on from {place}")
        return found
    if faults:
        raise CheckpointError(
            f"no checkpoint is whole: {'; '.join(faults)}. Nothing was changed; restore one, or remove {folder} "
            "to begin anew"
        )
    return None


def _read(place: Path, step: int) -> Checkpoint:
    manifest = json.loads((place / MANIFEST).read_bytes())
    changed = [name for name in (TENSORS, FACTS) if _sha256(place / name) != manifest[name]]
    if changed:
        raise ValueError(f"{' and '.join(changed)} not as written")
    return Checkpoint(step, load_file(place / TENSORS), json.loads((place / FACTS).read_bytes()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
