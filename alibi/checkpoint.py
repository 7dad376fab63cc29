"""Checkpoints that are whole or absent, checked before they are used, and hold no pickle.

A checkpoint is a folder named by its step: `tensors.safetensors` (weights, optimiser state, random states),
`facts.json` (everything else) and `manifest.json` (SHA-256 of both). It is written beside its place, synchronised to
the disk and renamed, so that a process that ends at any moment leaves the one before. Whatever else lies among them,
by a name that is not theirs, is left alone.
"""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alibi.errors import UserError
from alibi.files import NO_ROOM, UNFINISHED, remove_folder, sha256, to_disk
from alibi.progress import say

TENSORS, FACTS, MANIFEST = "tensors.safetensors", "facts.json", "manifest.json"
# 000000002, and while it is written 000000002.PID.part; PID 0 names one that is being replaced.
NAME = re.compile(rf"([0-9]{{9,}})(\.[0-9]+{re.escape(UNFINISHED)})?")


class CheckpointError(UserError, RuntimeError):
    """A checkpoint can't be written, or none of those there are can be read."""


@dataclass(frozen=True)
class Checkpoint:
    """A state to go on from."""

    step: int
    """Optimiser steps done."""
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Writes a checkpoint into the folder and removes all but the newest `keep`.

    Raises:
        CheckpointError: if it can't be written, a full disk for example; those that were there stay.
    """
    place = folder / f"{checkpoint.step:09}"
    temporary = folder / f"{place.name}.{os.getpid()}{UNFINISHED}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        temporary.mkdir()
        save_file(checkpoint.tensors, temporary / TENSORS)
        (temporary / FACTS).write_text(json.dumps(checkpoint.facts), encoding="utf-8")
        manifest = {name: sha256(temporary / name) for name in (TENSORS, FACTS)}
        (temporary / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for name in (TENSORS, FACTS, MANIFEST):
            to_disk(temporary / name)
        to_disk(temporary)
        if place.is_dir():  # One of this step that could not be read.
            place.rename(folder / f"{place.name}.0{UNFINISHED}")
        elif place.exists():
            raise FileExistsError(errno.EEXIST, "a file that is no checkpoint has its name", str(place))
        temporary.rename(place)
        to_disk(folder)
    except (OSError, SafetensorError) as wrong:
        with suppress(OSError):
            _remove_unfinished(folder)
        there = ", ".join(str(number) for number in steps(folder)) or "none"
        remedy = "With room made, the same" if _errno(wrong) in NO_ROOM else "Once that is mended, the same"
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} can't be written into {folder}: {wrong}. "
            f"Checkpoints that are there: {there}. {remedy} command goes on from the last"
        ) from wrong
    _remove_unfinished(folder)
    for older in steps(folder)[:-keep]:
        remove_folder(folder / f"{older:09}")


def remove(folder: Path) -> None:
    """Removes the checkpoints of a run that is finished, and their folder if nothing else lies in it."""
    with suppress(OSError):
        _remove_unfinished(folder)
        for step in steps(folder):
            remove_folder(folder / f"{step:09}")
        folder.rmdir()


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in the folder, whole or not, rising."""
    return sorted(int(name[1]) for name in _ours(folder) if not name[2])


def _ours(folder: Path) -> Iterator[re.Match[str]]:
    """Names of the folders in it that `save` can have made."""
    for path in folder.iterdir() if folder.is_dir() else ():
        name = NAME.fullmatch(path.name)
        if name and name[1] == f"{int(name[1]):09}" and path.is_dir() and not path.is_symlink():
            yield name


def _remove_unfinished(folder: Path) -> None:
    for name in list(_ours(folder)):
        if name[2]:
            remove_folder(folder / name[0])


def _errno(wrong: OSError | SafetensorError) -> int | None:
    if isinstance(wrong, OSError):
        return wrong.errno
    # safetensors tells the number in its message alone.
    found = re.search(r"(?:os error|code:) (\d+)", str(wrong))
    return int(found[1]) if found else None


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
    changed = [name for name in (TENSORS, FACTS) if sha256(place / name) != manifest[name]]
    if changed:
        raise ValueError(f"{' and '.join(changed)} not as written")
    return Checkpoint(step, load_file(place / TENSORS), json.loads((place / FACTS).read_bytes()))
