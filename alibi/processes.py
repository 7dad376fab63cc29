"""Several processes that torchrun started for one run: joining, agreeing, sharing, and messages about an early end.

They use torch's process groups: NCCL between GPUs, gloo between CPUs. Without torchrun there is one process and no
group, and each function answers for this one.

All processes make the same calls in the same order. The first one, rank 0, reads and writes files and prints; the
others stay silent.
"""

import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alibi.errors import UserError, told

# A process that waits longer than this takes another one for hung: a save or a compilation takes less.
PATIENCE = timedelta(minutes=10)
# The launcher checks ten times a second which process ended. A process that only lost the others ends after this delay,
# so that the launcher names the process that ended first.
SECONDS_TO_BE_SEEN = 2.0

# Every group of this process, kept after its end. If DDP's reducer held the last reference, torch would end gloo's
# threads while it holds the GIL. One of them may wait for the GIL to free its last operation: neither would ever end.
_groups: list[Any] = []

Value = TypeVar("Value")


class ProcessLostError(UserError, RuntimeError):
    """Another process of the run ended or hangs; saved files are whole, and the same command goes on."""


def launched() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def count() -> int:
    """Number of processes in the group; 1 without one."""
    return dist.get_world_size() if _grouped() else 1


def rank() -> int:
    """This process's number in the group, from 0."""
    return dist.get_rank() if _grouped() else 0


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def group() -> Iterator[None]:
    """Joins the processes that torchrun started for the block; each takes the GPU of its local rank.

    If several processes raise errors, only the first one is printed. The others end with the same exit status.

    Raises:
        ProcessLostError: if another process ended, or did not answer within `PATIENCE`; the message names it.
        SystemExit: in the other processes, after an error.
    """
    if not launched():
        yield
        return
    store, number, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    # A restart finds the same store, with the addresses of ended processes.
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=PATIENCE)
        _groups.append(dist.group.WORLD)
        with _silent() if number else ExitStack():
            yield
    except UserError as wrong:
        if not _first(store, "told"):
            sys.exit(wrong.exit_status)
        raise
    except RuntimeError as wrong:
        if not _is_of_group(wrong):
            raise
        why = _lost(store, number, size, wrong)
        if not _first(store, "told"):
            sys.exit(ProcessLostError.exit_status)
        raise ProcessLostError(why) from wrong
    dist.destroy_process_group()


@contextmanager
def _silent() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _first(store: Any, key: str) -> bool:
    """Whether this process is the first to ask; also true if the store is gone with the process that held it."""
    try:
        return bool(store.add(key, 1) == 1)
    except RuntimeError:
        return True


def _is_of_group(wrong: RuntimeError) -> bool:
    # gloo's errors are plain RuntimeErrors, which name its source files.
    return isinstance(wrong, dist.DistError) or "gloo" in str(wrong)


def _lost(store: Any, number: int, size: int, wrong: RuntimeError) -> str:
    """A message about the other processes, after a wait in which they notice too or the launcher ends this one."""
    silent: list[int] = []
    with suppress(RuntimeError):
        store.set(f"answer {number}", "here")
        with suppress(KeyboardInterrupt):
            time.sleep(SECONDS_TO_BE_SEEN)
        silent = [other for other in range(size) if not store.check([f"answer {other}"])]
    if "imed out" in str(wrong):
        which = ", ".join(map(str, silent)) or "unknown"
        what = f"process {which} of {size} did not answer within {PATIENCE.total_seconds() / 60:g} minutes"
    else:
        # Processes that still wait for the lost one are silent too.
        which = f"process {silent[0]}" if len(silent) == 1 else "a process"
        what = f"{which} of {size} ended, so the others ended too; torchrun names the first"
    if isinstance(wrong, dist.DistError):
        what += f" ({told(wrong)})"
    return f"{what}; the same command goes on from the last checkpoint"


def from_first(value: Value) -> Value:
    """The first process's value, in every process."""
    if not _grouped():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def from_all(value: Value) -> list[Value]:
    """Every process's value, by rank, in every process."""
    if not _grouped():
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Waits until every process has called it."""
    if _grouped():
        dist.barrier()


def total(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, in every process."""
    if _grouped():
        dist.all_reduce(tensor)
    return tensor


def highest(number: int) -> int:
    """The highest of the processes' numbers, in every process."""
    if not _grouped():
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def whole(tensor: Tensor) -> Tensor | None:
    """The whole tensor in the first process, None in the others; each may hold a part of it, as under FSDP."""
    if _grouped() and isinstance(tensor, _sharded()):
        tensor = tensor.full_tensor()
        # A GPU may have no room for all tensors.
        return None if rank() else tensor.cpu()
    return None if rank() else tensor


@torch.no_grad()
def fill(tensor: Tensor, value: Tensor | None) -> None:
    """Sets a tensor to the value that the first process has; each process may hold a part of the tensor."""
    if _grouped():
        given = torch.empty(tensor.shape, dtype=tensor.dtype) if value is None else value
        value = given.to(tensor.device, tensor.dtype).contiguous()
        if isinstance(tensor, _sharded()):
            from torch.distributed.tensor import distribute_tensor

            value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
        else:
            dist.broadcast(value, src=0)
    assert value is not None
    tensor.copy_(value)


def replicated(tensor: Tensor) -> Tensor:
    """A number, whole in every process, though each process may hold only a part of it."""
    return tensor.full_tensor() if _grouped() and isinstance(tensor, _sharded()) else tensor


def shard(model: nn.Module, units: Iterable[nn.Module], device: str) -> None:
    """Spreads weights, gradients and so the optimiser's state over the processes, by torch's FSDP2.

    A unit's weights are gathered for its own passes, and weights outside the units for the model's whole pass. Weights
    stay float32, as in one process.

    Args:
        model: on its device, the same in every process; its weights become shards in place.
        units: modules of the model, such as its layers.
        device: cpu or cuda.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # It warns against writing to views, and nothing writes to the losses.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    mesh = init_device_mesh(device, (count(),))
    for unit in units:
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "negative_log_likelihood")


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has spread this model: then every process must take part in each of its passes."""
    return _grouped() and any(isinstance(parameter, _sharded()) for parameter in model.parameters())


def _sharded() -> Any:
    from torch.distributed.tensor import DTensor

    return DTensor
