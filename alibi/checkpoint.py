"""Checkpoints that are whole or absent, checked before use, and free of pickles.

A checkpoint is a folder named by its step: `tensors.safetensors` (weights, optimiser state, random states),
`facts.json` (everything else) and `manifest.json` (SHA-256 of both). `save` writes it under a temporary name,
synchronises it to the disk and renames it: a process that ends at any moment leaves the previous checkpoint. Files with
other names in the same folder stay untouched.
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
# 000000002; an unfinished one is 000000002.PID.part, and one that is being replaced has PID 0.
NAME = re.compile(rf"([0-9]{{9,}})(\.[0-9]+{re.escape(UNFINISHED)})?")


class CheckpointError(UserError, RuntimeError):
    """A checkpoint can't be written, or no checkpoint of the folder can be read."""


@dataclass(frozen=True)
class Checkpoint:
    """A state from which a run resumes."""

    step: int
    """Number of optimiser steps before it."""
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Writes a checkpoint into the folder and keeps only the newest `keep` up to it; later ones are damaged and stay.

    Raises:
        CheckpointError: if it can't be written, for example to a full disk; earlier checkpoints stay.
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
        if place.is_dir():  # An unreadable checkpoint of the same step.
            place.rename(folder / f"{place.name}.0{UNFINISHED}")
        elif place.exists():
            raise FileExistsError(errno.EEXIST, "a file that is not a checkpoint has its name", str(place))
        temporary.rename(place)
        to_disk(folder)
    except (OSError, SafetensorError) as wrong:
        with suppress(OSError):
            _remove_unfinished(folder)
        there = ", ".join(str(number) for number in steps(folder)) or "none"
        remedy = "Make room" if _errno(wrong) in NO_ROOM else "Mend that"
        then = "begins again" if there == "none" else "goes on from the last"
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} can't be written into {folder}: {wrong}. "
            f"Steps with a checkpoint: {there}. {remedy} and repeat the command: it {then}"
        ) from wrong
    _remove_unfinished(folder)
    for older in [step for step in steps(folder) if step <= checkpoint.step][:-keep]:
        remove_folder(folder / f"{older:09}")


def remove(folder: Path) -> None:
    """Removes all checkpoints of a finished run, and their folder if it is then empty."""
    with suppress(OSError):
        _remove_unfinished(folder)
        for step in steps(folder):
            remove_folder(folder / f"{step:09}")
        folder.rmdir()


def steps(folder: Path) -> list[int]:
    """The steps of the folder's checkpoints, whole or damaged, in ascending order."""
    return sorted(int(name[1]) for name in _ours(folder) if not name[2])


def _ours(folder: Path) -> Iterator[re.Match[str]]:
    """Matches of the subfolders whose names have the form that `save` writes."""
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
    # safetensors gives the number only in its message.
    found = re.search(r"(?:os error|code:) (\d+)", str(wrong))
    return int(found[1]) if found else None


def newest(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint, or None if the folder has none.

    Damaged ones are skipped; a warning on stderr names them and the one that is used instead.

    Raises:
        CheckpointError: if all checkpoints are damaged; nothing is changed.
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
            f"every checkpoint is damaged: {'; '.join(faults)}. Nothing was changed; restore one, or remove {folder} "
            "to begin anew"
        )
    return None


def _read(place: Path, step: int) -> Checkpoint:
    manifest = json.loads((place / MANIFEST).read_bytes())
    changed = [name for name in (TENSORS, FACTS) if sha256(place / name) != manifest[name]]
    if changed:
        raise ValueError(f"{' and '.join(changed)} changed since writing")
    return Checkpoint(step, load_file(place / TENSORS), json.loads((place / FACTS).read_bytes()))
