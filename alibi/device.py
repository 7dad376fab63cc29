"""Devices: their names, their abilities, and the settings of a fast CPU.

Only this module tells devices apart; all other code asks it. `mps` is the GPU of a Mac: in torch it has no float64, no
backward pass of FlexAttention, and no count of its peak memory.
"""

import ctypes
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from alibi.errors import UnknownNameError

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("bfloat16", "float32")
# Torch's number when this module is imported. `settle_cpu` changes it, and the configuration of a run must not depend
# on the runs that the process trained or evaluated before.
THREADS = torch.get_num_threads()

Model = TypeVar("Model", bound=torch.nn.Module)


def check_device(device: str) -> None:
    """Checks the name of a device.

    Raises:
        UnknownNameError: for an unknown name; the message lists the known ones.
    """
    if device not in DEVICES:
        raise UnknownNameError("device", device, DEVICES)


def is_here(device: str) -> bool:
    """Whether torch can compute on this device."""
    return not absence(device)


def absence(device: str) -> str:
    """The reason why torch can't compute on this device, such as "torch sees no CUDA GPU"; empty if it can."""
    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    if device == "mps" and not torch.backends.mps.is_built():
        return "this torch was built without MPS: only those for a Mac with an Apple GPU have it"
    if device == "mps" and not torch.backends.mps.is_available():
        return "torch sees no Apple GPU: it needs a Mac that has one, and macOS 14 or newer"
    return ""


def best_device() -> str:
    """The fastest kind of device of this machine: CUDA, else MPS, else the CPU."""
    return next(device for device in ("cuda", "mps", "cpu") if is_here(device))


def _capabilities() -> dict[str, Any]:
    # Older torch has no public way to ask.
    return dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}


@cache
def device_name(device: str) -> str:
    """The GPU's name, or the CPU's."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if device == "mps":
        # Older torch has no public way to ask; the fallback says "arm" for every Mac.
        return f"{getattr(torch.backends.mps, 'get_name', platform.processor)()} (MPS)"
    return f"{_capabilities().get('cpu_name') or platform.processor() or platform.machine()} (CPU)"


def kind_of(name: str) -> str:
    """The kind of the device with this `device_name`: cpu, cuda or mps."""
    return "cpu" if name.endswith(" (CPU)") else "mps" if name.endswith(" (MPS)") else "cuda"


def compute_dtype(device: str) -> str:
    """bfloat16 if the device multiplies it natively (CUDA from Ampere on; CPUs with AVX512-BF16 or AMX), else float32.

    CUDA that is not here, as in a plan, counts as such. MPS gets float32: some Apple GPUs can't multiply bfloat16, and
    torch does not say which. `--dtype` overrides it.
    """
    if device == "cuda":
        here = is_here(device)
        return "bfloat16" if not here or torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = _capabilities()
    # torch may use less than the CPU has: ATEN_CPU_CAPABILITY can limit it.
    used = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    on_cpu = used and (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "bfloat16" if device == "cpu" and on_cpu else "float32"


def compiles(device: str) -> bool:
    """Whether torch.compile gains time on this device: on CUDA. Torch calls its compiler for MPS a prototype."""
    return device == "cuda"


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64 where the device has it, else float32: MPS has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def float64_device(device: torch.device) -> torch.device:
    """The device for computations in float64: the device itself, or the CPU if it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def placed(model: Model, device: str) -> Model:
    """The model on this device; without float64 there, its float64 tensors are rounded to float32."""
    return (model.float() if device == "mps" else model).to(device)


@contextmanager
def computing(device: str, dtype: str) -> Iterator[None]:
    """A block in which a model computes in this dtype on this device, whatever autocast is around it.

    Its weights stay float32.
    """
    # In another autocast torch keeps its copies of weights, also of layers that a backward pass computes again. Then
    # this block would read those of the last step, and what follows it, those of this one.
    torch.clear_autocast_cache()
    try:
        with without_autocast(device) if dtype == "float32" else torch.autocast(device, getattr(torch, dtype)):
            yield
    finally:
        torch.clear_autocast_cache()


@contextmanager
def of_its_own(device: str) -> Iterator[None]:
    """A block in which nothing counts that the caller has set in torch: autocast, no gradients, or a default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with without_autocast(device), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """The context in which each operation on this device has the dtype of its factors."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def cores() -> int:
    """CPU cores that this process may use: those that it is bound to, as by taskset or Slurm, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle_cpu(threads: int) -> None:
    """Prepares this process for work on a CPU, before its first parallel work: threads, small numbers, memory.

    Under a bias the weights of far tokens underflow, and subnormal numbers slow a CPU two- to threefold: this sets them
    to zero. glibc returns large blocks to the system and faults them in again at each step, a fifth of the step's time:
    this makes it keep them.

    Args:
        threads: number for the run; at most `cores` are used, since more would wait for each other, or as many as
            torch has already (OMP_NUM_THREADS) if these are more.
    """
    torch.set_num_threads(min(threads, max(cores(), torch.get_num_threads())))
    torch.set_flush_denormal(True)
    if (libc := _glibc()) is not None:
        trim_threshold, mmap_max = -1, -4
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(mmap_max, 0)


def give_back_memory() -> None:
    """Returns to the system the free memory that glibc keeps after `settle_cpu`; call it now and then.

    Where the sizes of tensors differ from step to step, as in the bands of an adaptive softmax, the kept memory
    fragments: a small model took 10 MiB more at each step.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None  # musl has none.


def matmul_rate(device: str, dtype: str, again: bool = False) -> float:
    """Floating point operations a second of large matrix products in this dtype; a number of threads has its own.

    Measured once in a process; with `again` once more.
    """
    if again:
        _matmul_rate.cache_clear()
    return _matmul_rate(device, dtype, torch.get_num_threads())


@cache
def _matmul_rate(device: str, dtype: str, threads: int) -> float:
    size = {"cuda": 8192, "mps": 4096}.get(device, 1024)
    # Random numbers, because a GPU draws less power for ones and is faster then; from a generator of their own, because
    # a run must not depend on an earlier measurement.
    own = torch.Generator(device).manual_seed(0)
    a = torch.randn(size, size, dtype=getattr(torch, dtype), device=device, generator=own)
    best = math.inf
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def synchronise(device: str) -> None:
    """Waits until the device has finished its work; a CPU always has."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def random_state(device: str) -> torch.Tensor | None:
    """The state of the device's random generator, from which dropout draws; None on a CPU, which uses torch's."""
    if device == "cuda":
        return torch.cuda.get_rng_state()
    return torch.mps.get_rng_state() if device == "mps" else None


def set_random_state(device: str, state: torch.Tensor) -> None:
    """Sets the device's generator to a state of `random_state`."""
    if device == "cuda":
        torch.cuda.set_rng_state(state)
    elif device == "mps":
        torch.mps.set_rng_state(state)


def peak_memory(device: str) -> int:
    """Peak bytes so far: allocated on the GPU, or resident of this process; 0 on Windows, which is not asked.

    On MPS: the bytes that Metal has given to this process, which hardly ever fall, because torch keeps them for later.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return 0
    # On Linux ru_maxrss starts at the value of the parent process; this peak is the process's own.
    status = Path("/proc/self/status")
    if status.is_file() and "VmHWM:" in (told := status.read_text(encoding="utf-8")):
        return 1024 * int(told.split("VmHWM:")[1].split()[0])
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
