"""Places of runs in the cache: the key of a configuration, and the files of a run's measurements."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from alibi.configuration import RECIPE, TrainConfig
from alibi.device import device_name
from alibi.evaluate import AgainstItself, Evaluation
from alibi.files import content_sha256, write_whole
from alibi.measures.attention_distance import AttentionDistance
from alibi.measures.receptive_field import ReceptiveField
from alibi.measures.repeats import Repeats
from alibi.measures.truncation import Truncation
from alibi.model import ModelConfig
from alibi.paths import cache_folder
from alibi.positions import METHODS
from alibi.progress import say

# SHA-256 of a measurement, and of the text that was read, in its file; older files lack one or both.
DIGEST, TEXT_DIGEST = "sha256", "text_sha256"

Measured = TypeVar("Measured", Evaluation, AgainstItself, Truncation, AttentionDistance, Repeats, ReceptiveField)


def config_hash(config: TrainConfig, machine: str = "") -> str:
    """Twelve hexadecimal digits that stand for a configuration, its recipe and the machine that trains it.

    Fields with their default value are left out, so that a new field keeps the hashes of earlier runs. Code counts only
    by `alibi.configuration.RECIPE` and by the version of the run's position method: see there when to count them up.

    Args:
        config: configuration of a run.
        machine: `device_name` of the device that trained it; empty for this machine's.
    """
    key = _chosen(config) | {
        "model": _chosen(config.model),
        "machine": machine or device_name(config.device),
        "recipe": RECIPE,
        "method_version": METHODS[config.model.method].version,
    }
    return content_sha256(key)[:12]


def _chosen(config: TrainConfig | ModelConfig) -> dict[str, Any]:
    named = {field.name: (getattr(config, field.name), field.default) for field in fields(config)}
    return {name: value for name, (value, default) in named.items() if name != "model" and value != default}


def run_folder(config: TrainConfig) -> Path:
    """The folder of this configuration's run in the cache, which may not exist yet."""
    name = f"{config.model.method}-{config.scale}-{config.train_length}-seed{config.seed}-{config_hash(config)}"
    return cache_folder() / "runs" / name


def lock_of(folder: Path) -> Path:
    """The file that a process locks while it trains or measures the run of this folder."""
    return folder.with_name(f"{folder.name}.lock")


def stored(kind: type[Measured], path: Path, text_sha256: str = "") -> Measured | None:
    """The measurement in this file; None if there is none, and with a warning if it is damaged or of another text.

    Args:
        kind: class of the measurement.
        path: its file.
        text_sha256: SHA-256 of the text that it should be of (`alibi.corpora.corpus.Split`).
    """
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        right = content_sha256(content, DIGEST)
        if content.pop(DIGEST, right) != right:
            raise ValueError("it is not as it was written")
        if content.pop(TEXT_DIGEST, text_sha256) != text_sha256:
            say(f"warning: {path} is of another text; measured again")
            return None
        content |= {name: np.array(values) for name, values in content.items() if isinstance(values, list)}
        return kind(**content)
    except (OSError, ValueError, TypeError, AttributeError) as wrong:
        say(f"warning: {path} can't be read: {wrong}; measured again")
        return None


def store(found: Measured, path: Path, text_sha256: str = "") -> None:
    """Writes a measurement, and the digest of its text, into this file, which is then whole or absent.

    The run's lock is held.
    """
    content = {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for name, value in asdict(found).items()
    }
    content[TEXT_DIGEST] = text_sha256
    content[DIGEST] = content_sha256(content, DIGEST)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda part: part.write_text(json.dumps(content), encoding="utf-8"), alone=True)
