"""Peak memory of training and of evaluation, each in a process of its own."""

from pathlib import Path

import torch

from alibi.device import peak_memory, settle_cpu
from alibi.interruption import Pool
from alibi.speed.evaluation import LONGER, scoring
from alibi.speed.shapes import Shape, training
from alibi.speed.timing import Ratios, Rows

MEMORY_COLUMNS = ("train_bytes", "evaluate_8L_bytes", "evaluate_16L_bytes")


def _highest(device: str) -> int:
    """Peak resident bytes of this process alone; getrusage would include its parent's."""
    status = Path("/proc/self/status")
    if device != "cpu" or not status.is_file():
        return peak_memory(device)
    lines = status.read_text("utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _training_memory(shape: Shape, method: str, kernel: str, device: str, threads: int) -> int:
    settle_cpu(threads)
    before = _highest(device) if device == "cpu" else 0
    run = training(shape, method, kernel, device, compiled=False)
    for _ in range(2):
        run.step()
    return _highest(device) - before


def _evaluation_memory(shape: Shape, method: str, device: str, threads: int) -> tuple[int, int]:
    settle_cpu(threads)
    model = training(shape, method, "automatic", device, compiled=False).model.eval()
    scoring(model, shape, shape.length, shape.length, None, shape.length)()
    before, found = _highest(device), []
    for length in (LONGER // 2 * shape.length, LONGER * shape.length):
        scoring(model, shape, length, length, None, length)()
        found.append(_highest(device) - before)
    return found[0], found[1]


def memory(shape: Shape, kernels: dict[str, str], device: str, beyond: bool = True) -> tuple[Rows, Ratios]:
    """Peak bytes of training and of evaluating one window of 8 L and 16 L, each in a process of its own; ratios.

    Training: above the process that has nothing but the libraries loaded. Evaluation: above what a window of L took,
    so that a ratio of 16 L to 8 L of 15/7 is linear growth, and of 4.05 growth with the square.

    Args:
        shape: of the model.
        kernels: the attention kernel that each method trains on; the first method is what others are divided by.
        device: cpu, cuda or mps.
        beyond: evaluation as well, not training alone.
    """
    threads = torch.get_num_threads()
    rows: Rows = []
    ratios: Ratios = {}
    for method, kernel in kernels.items():
        # One process for each task: a peak does not go down again.
        with Pool(1, tasks_per_child=1) as pool:
            found = [pool.submit(_training_memory, shape, method, kernel, device, threads).result()]
            if beyond:
                found += pool.submit(_evaluation_memory, shape, method, device, threads).result()
                ratios[f"evaluate_memory {method} at {LONGER} L/{LONGER // 2} L"] = {
                    shape.name: found[2] / max(1, found[1])
                }
        columns = MEMORY_COLUMNS[: len(found)]
        rows.append({"shape": shape.name, "method": method, "kernel": kernel} | dict(zip(columns, found, strict=True)))
    for row in rows[1:]:
        for what, column in (("train_memory", MEMORY_COLUMNS[0]), ("evaluate_memory", MEMORY_COLUMNS[2])):
            if column in row:
                ratio = row[column] / max(1, rows[0][column])
                ratios[f"{what} {row['method']}/{rows[0]['method']}"] = {shape.name: ratio}
    return rows, ratios
