"""What computes: the dtype that suits it, its name, and what a CPU must be told before it works fast."""

import ctypes
import math
import os
import platform
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import cache
from typing import Any

import torch

from alibi.paths import checkout

DEVICES = ("cpu", "cuda")
DTYPES = ("bfloat16", "float32")


def is_here(device: str) -> bool:
    """Whether torch can compute on this device."""
    return device == "cpu" or (device == "cuda" and torch.cuda.is_available())


def _capabilities() -> dict[str, Any]:
    # Older torch has no public way to ask.
    return dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}


@cache
def device_name(device: str) -> str:
    """What computes: the GPU's name, or the CPU's."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_capabilities().get('cpu_name') or platform.processor() or platform.machine()} (CPU)"


def compute_dtype(device: str) -> str:
    """bfloat16 where the device multiplies it natively (GPUs; CPUs with AVX512-BF16 or AMX), else float32."""
    capabilities = _capabilities()
    # torch may use less than the CPU has: ATEN_CPU_CAPABILITY can limit it.
    used = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    native = device == "cuda" or (used and (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")))
    return "bfloat16" if native else "float32"


def computing(device: str, dtype: str) -> AbstractContextManager[Any]:
    """The context in which a model computes in this dtype on this device; its weights stay float32."""
    return nullcontext() if dtype == "float32" else torch.autocast(device, getattr(torch, dtype))


def settle_cpu(threads: int) -> None:
    """Prepares this process for work on a CPU, before its first parallel work: threads, small numbers, memory.

    Under a bias the weights of far tokens underflow, and subnormal numbers slow a CPU two- to threefold: this sets them
    to zero. glibc returns large blocks to the system and faults them in again at each step, which costs a fifth of the
    step's time: this makes it keep them.

    Args:
        threads: the run's number, cut to this machine's cores: more threads than cores wait for each other.
    """
    torch.set_num_threads(min(threads, max(os.cpu_count() or 1, torch.get_num_threads())))
    torch.set_flush_denormal(True)
    if (libc := _glibc()) is not None:
        trim_threshold, mmap_max = -1, -4
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(mmap_max, 0)


def give_back_memory() -> None:
    """Returns free memory to the system, which glibc keeps after `settle_cpu`; call it now and then.

    Where the sizes of tensors differ from step to step, as in the bands of an adaptive softmax, the kept memory
    fragments: a small model took 10 MiB more at each step.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None  # musl has none.


@cache
def matmul_rate(device: str, dtype: str) -> float:
    """Floating point operations a second of large matrix products in this dtype, measured once."""
    size = 8192 if device == "cuda" else 1024
    # Ones, not random numbers: a run must not depend on an earlier measurement.
    a = torch.ones(size, size, dtype=getattr(torch, dtype), device=device)
    best = math.inf
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def peak_memory(device: str) -> int:
    """Bytes at most so far: allocated on the GPU, or resident of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


@cache
def commit() -> str:
    """The commit of the checkout, with "+" for changed files; "not a checkout" for an installed wheel."""
    root = checkout()
    if root is None:
        return "not a checkout"

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", "alibi") else "")
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"


def provenance(device: str) -> dict[str, str]:
    """The machine and code of a measurement: device, torch version, commit, date (UTC)."""
    return {
        "device": device_name(device),
        "torch_version": torch.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }
