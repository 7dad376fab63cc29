"""Folders that nobody can write, and what root can't remove: real mounts for root, permissions for everyone else."""

import os
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def read_only(folder):
    """Nothing in this folder can be written or removed, and the folder itself can't be removed."""
    if os.geteuid():
        inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        before = [path.stat().st_mode for path in inside]
        for path in inside:
            path.chmod(0o500)
        try:
            yield
        finally:
            for path, mode in zip(inside, before, strict=True):
                path.chmod(mode)
        return
    mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"root can write everywhere, and nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        # What was mapped from it may still be open.
        subprocess.run(["umount", "--lazy", folder], check=True)
