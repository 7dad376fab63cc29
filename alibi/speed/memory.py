"""Peak memory of training and of evaluation, each in a process of its own."""

from dataclasses import replace
from pathlib import Path

import torch

from alibi.device import peak_memory, settle_cpu
from alibi.interruption import Pool
from alibi.speed.evaluation import LONGER, scoring
from alibi.speed.result import MemoryRow, Ratio
from alibi.speed.shapes import Contender, Shape, training


def _highest(device: str) -> int:
    """Peak resident bytes of this process alone; getrusage would include its parent's."""
    status = Path("/proc/self/status")
    if device != "cpu" or not status.is_file():
        return peak_memory(device)
    lines = status.read_text("utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _training_memory(shape: Shape, contender: Contender, kernel: str, device: str, threads: int) -> int:
    settle_cpu(threads)
    before = _highest(device) if device == "cpu" else 0
    run = training(shape, contender, kernel, device, compiled=False)
    for _ in range(2):
        run.step()
    return _highest(device) - before


def _evaluation_memory(shape: Shape, contender: Contender, device: str, threads: int) -> tuple[int, int]:
    settle_cpu(threads)
    model = training(shape, contender, "automatic", device, compiled=False).model.eval()
    scoring(model, shape, shape.length, shape.length, None, shape.length)()
    before, found = _highest(device), []
    for length in (LONGER // 2 * shape.length, LONGER * shape.length):
        scoring(model, shape, length, length, None, length)()
        found.append(_highest(device) - before)
    return found[0], found[1]


def memory(
    shape: Shape, kernels: dict[Contender, str], device: str, beyond: bool = True
) -> tuple[list[MemoryRow], list[Ratio]]:
    """Peak bytes of training and of evaluating one window of 8 L and 16 L, each in a process of its own; ratios.

    Training counts the bytes above a process that has loaded the libraries alone, evaluation the bytes above the peak
    of one window of L. So a ratio of 16 L to 8 L of 15/7 is linear growth, and one of 4.05 is growth with the square.

    Args:
        shape: of the model.
        kernels: the attention kernel that each contender trains on; the first is what the others are divided by.
        device: cpu, cuda or mps.
        beyond: measure evaluation as well.
    """
    threads = torch.get_num_threads()
    rows: list[MemoryRow] = []
    ratios: list[Ratio] = []
    for contender, kernel in kernels.items():
        # One process for each task: a peak does not go down again.
        with Pool(1, tasks_per_child=1) as pool:
            trained = pool.submit(_training_memory, shape, contender, kernel, device, threads).result()
            row = MemoryRow(shape.name, contender.name, kernel, trained)
            if beyond:
                shorter, longer = pool.submit(_evaluation_memory, shape, contender, device, threads).result()
                row = replace(row, evaluate_8L_bytes=shorter, evaluate_16L_bytes=longer)
                at = f"{row.method} at {LONGER} L"
                ratios.append(_ratio("evaluate_memory", at, f"{LONGER // 2} L", shape, longer, shorter))
        rows.append(row)
    first, *others = rows
    for row in others:
        ratios.append(_ratio("train_memory", row.method, first.method, shape, row.train_bytes, first.train_bytes))
        if row.evaluate_16L_bytes is not None and first.evaluate_16L_bytes is not None:
            longest = row.evaluate_16L_bytes, first.evaluate_16L_bytes
            ratios.append(_ratio("evaluate_memory", row.method, first.method, shape, *longest))
    return rows, ratios


def _ratio(quantity: str, numerator: str, denominator: str, shape: Shape, above: int, below: int) -> Ratio:
    return Ratio(quantity, numerator, denominator, shape.name, above / max(1, below))
