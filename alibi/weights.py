"""The weights of a finished run: checked, then read into a model."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from alibi.attention import choose_kernel
from alibi.configuration import CONFIG, WEIGHTS_DIGEST, TrainingError, evaluation_device, read_run
from alibi.device import of_its_own, placed
from alibi.files import sha256
from alibi.model import Decoder
from alibi.positions import NoBias
from alibi.progress import say

WEIGHTS = "model.safetensors"
# The remedy of damaged files: a folder with a configuration counts as finished, and would not be trained.
AGAIN = "remove the run and train it again"


def load_model(folder: str | Path, device: str | None = None) -> Decoder:
    """The trained model in this folder, ready to evaluate.

    Args:
        folder: folder of the run.
        device: cpu, cuda or mps; None takes the device of the training or, with a warning, the CPU if that is missing.

    Raises:
        InputError: for an unknown device; the message lists the known ones.
        TrainingError: if the device is missing, the folder holds no finished run, or its files are damaged, edited or
            from another version; the message names the file and the field or weight.
    """
    folder = Path(folder)
    config, facts = read_run(folder)
    device = evaluation_device(config, device, folder)
    kernel = config.kernel
    if device != config.device and kernel != "automatic":
        say(f"{folder}: attention kernel {kernel} was chosen for {config.device}; automatic here")
        kernel = "automatic"
    try:
        (folder / WEIGHTS).open("rb").close()  # safetensors calls a file without permission missing.
        weights = load_file(folder / WEIGHTS)
    except PermissionError as wrong:
        raise TrainingError(f"{folder / WEIGHTS} can't be read: {wrong}; its owner can allow it") from wrong
    except (OSError, SafetensorError) as wrong:
        raise TrainingError(f"{folder / WEIGHTS} can't be read: {wrong}; {AGAIN}") from wrong
    # Before building the model: a mistyped number of layers can take all memory.
    layers = len({name.split(".")[1] for name in weights if name.startswith("layers.")})
    if layers != config.model.layers:
        raise TrainingError(f"{folder / CONFIG}: model.layers is {config.model.layers}, and {WEIGHTS} has {layers}")
    try:
        choose_kernel(device, 1, False, NoBias(), kernel)
        with of_its_own(device):
            model = Decoder(config.model, kernel)
    except (ValueError, RuntimeError) as wrong:
        raise TrainingError(f"{folder / CONFIG} describes no model: {wrong}") from wrong
    check_weights(model, weights, f"{folder / WEIGHTS}")
    if facts.get(WEIGHTS_DIGEST, "") not in ("", sha256(folder / WEIGHTS)):
        raise TrainingError(f"{folder / WEIGHTS} is not as it was written: restore it, or {AGAIN}")
    model.load_state_dict(weights)
    return placed(model, device).eval()


def check_weights(model: Decoder, weights: Mapping[str, Tensor], where: str) -> None:
    """Checks that the weights have this model's names and shapes, and are finite.

    Raises:
        TrainingError: if not; the message begins with `where` and names the first wrong weight.
    """
    right = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if faults := [
        f"{name} is {found.get(name, 'missing')}, and should be {right.get(name, 'left out')}"
        for name in right | found
        if found.get(name) != right.get(name)
    ]:
        more = f" ({len(faults) - 1} others differ too)" if len(faults) > 1 else ""
        raise TrainingError(f"{where} does not fit the model of {CONFIG}: {faults[0]}{more}")
    for name, kept in model.state_dict().items():
        value = weights[name]
        if value.is_floating_point() != kept.is_floating_point():
            raise TrainingError(f"{where}: {name} holds {value.dtype} instead of {kept.dtype}; {AGAIN}")
        if not value.isfinite().all():
            raise TrainingError(f"{where}: {name} holds numbers that are not finite; {AGAIN}")
