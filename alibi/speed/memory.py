"""Peak memory of training and of evaluation, in processes that do nothing else."""

import gc
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from alibi.device import peak_memory, settle_cpu
from alibi.interruption import Pool
from alibi.progress import say
from alibi.speed.evaluation import LONGER, scoring
from alibi.speed.result import MemoryRow, Ratio
from alibi.speed.shapes import Contender, Shape, training
from alibi.speed.trials import refusal_of


def allocated_at_most(work: Callable[[], object], device: str) -> int:
    """Peak bytes of tensors that some work allocates, above the bytes allocated before.

    It counts the bytes from torch's allocator, on a CPU by torch's profiler. So the number depends on shapes and code,
    not on the pages that the system has left resident. On MPS, which counts no peak, it is the bytes that Metal gave to
    the process.
    """
    if device != "cpu":
        gc.collect()  # A training refers to itself: until it is collected, its memory counts as allocated before.
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if device == "cuda" else peak_memory(device)
        work()
        return peak_memory(device) - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    # The public list of events has only allocations outside of operations.
    results: Any = profiler.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _training_memory(shape: Shape, contender: Contender, kernel: str, device: str, threads: int) -> int:
    settle_cpu(threads)

    def train() -> None:
        run = training(shape, contender, kernel, device, compiled=False)
        for _ in range(2):
            run.step()

    if device == "cuda":
        train()  # Workspaces, which torch allocates once in a process, would count in the first task alone.
    return allocated_at_most(train, device)


def _evaluation_memory(shape: Shape, contender: Contender, device: str, threads: int) -> tuple[int, int]:
    settle_cpu(threads)
    model = training(shape, contender, "automatic", device, compiled=False).model.eval()
    scoring(model, shape, shape.length, shape.length, None, shape.length)()
    shorter, longer = (
        allocated_at_most(scoring(model, shape, length, length, None, length), device)
        for length in (LONGER // 2 * shape.length, LONGER * shape.length)
    )
    return shorter, longer


def memory(
    shape: Shape, kernels: dict[Contender, str], device: str, beyond: bool = True, kernel: str | None = None
) -> tuple[list[MemoryRow], list[Ratio]]:
    """Peak bytes of training and of evaluating one window of 8 L and 16 L, and their ratios.

    Training counts the model, its gradients, the optimiser and everything in a step; evaluation does not count the
    model. So a ratio of 2 between 16 L and 8 L is linear growth, and 4 is growth with the square.

    Args:
        shape: shape of the model.
        kernels: the attention kernel that each contender trains on; ratios divide the others by the first.
        device: cpu, cuda or mps.
        beyond: also measure evaluation.
        kernel: also measure the training of each on this attention kernel, if it runs and another one is the fastest.
    """
    # torch reads it when it is loaded: the profiler writes each start to stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    threads = torch.get_num_threads()
    if device == "cuda":
        torch.cuda.empty_cache()  # The other process could not have the free memory that this one keeps.
    rows: dict[tuple[Contender, str], MemoryRow] = {}
    ratios: list[Ratio] = []
    # One process for each task, except on CUDA, where a peak can be reset: elsewhere it never goes down.
    with Pool(1, tasks_per_child=None if device == "cuda" else 1) as pool:
        for contender, fastest in kernels.items():
            for ran in dict.fromkeys((fastest,) if kernel is None else (fastest, kernel)):
                try:
                    trained = pool.submit(_training_memory, shape, contender, ran, device, threads).result()
                except Exception as failure:  # Stored scores may not fit where the fastest kernel does.
                    if ran == fastest:
                        raise
                    told = f"{contender.name} at shape {shape.name} does not train on kernel {ran}"
                    say(f"warning: {told}, whose memory is left out: {refusal_of(failure)}")
                    continue
                rows[contender, ran] = MemoryRow(shape.name, contender.name, ran, trained, fastest=ran == fastest)
            if beyond:
                shorter, longer = pool.submit(_evaluation_memory, shape, contender, device, threads).result()
                own = {"evaluate_8L_bytes": shorter, "evaluate_16L_bytes": longer}
                rows[contender, fastest] = replace(rows[contender, fastest], **own)
                at = f"{contender.name} at {LONGER} L"
                ratios.append(Ratio("evaluate_memory", at, f"{LONGER // 2} L", shape.name, longer / max(1, shorter)))
    first, *others = kernels
    for contender in others:
        row, opposite = rows[contender, kernels[contender]], rows[first, kernels[first]]
        names = contender.name, first.name, shape.name
        ratios.append(Ratio("train_memory", *names, row.train_bytes / opposite.train_bytes))
        if kernel is not None and {(contender, kernel), (first, kernel)} <= rows.keys():
            one = rows[contender, kernel].train_bytes / rows[first, kernel].train_bytes
            ratios.append(Ratio("train_memory", *names, one, kernel=kernel))
        if row.evaluate_16L_bytes is not None and opposite.evaluate_16L_bytes is not None:
            longest = row.evaluate_16L_bytes / max(1, opposite.evaluate_16L_bytes)
            ratios.append(Ratio("evaluate_memory", *names, longest))
    return list(rows.values()), ratios
