"""What devices can do; and what a CPU is told before it works, each in a process of its own, for which it holds."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchgen
import yaml
from small_run import DROPOUTS, period_corpus
from torch.utils._python_dispatch import TorchDispatchMode

from alibi.attention import choose_kernel
from alibi.configuration import TrainingError, configure, require_device
from alibi.device import (
    DEVICES,
    absence,
    best_device,
    check_device,
    compute_dtype,
    device_name,
    float64_device,
    is_here,
    kind_of,
    widest_dtype,
)
from alibi.errors import InputError
from alibi.model import Decoder, ModelConfig
from alibi.optim import RECIPES
from alibi.positions import METHODS, MultipliedBias, NoBias
from alibi.run_spec import RunSpec


def printed(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_memory_that_is_free_is_given_back_when_asked():
    # Blocks of ever other sizes, every second of which stays: what lies between fits nothing.
    before, after = printed(
        "import torch\n"
        "from pathlib import Path\n"
        "from alibi.device import give_back_memory, settle_cpu\n"
        "settle_cpu(1)\n"
        "def resident():\n"
        "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS'))\n"
        "blocks = [torch.ones(250_000 + 1000 * i) for i in range(300)]\n"
        "kept = blocks[::2]\n"
        "del blocks\n"
        "print(resident())\n"
        "give_back_memory()\n"
        "print(resident())\n"
    )
    assert int(before) - int(after) > 100_000  # KiB; half of 480,000 were free.


def test_subnormal_numbers_are_zero_on_every_thread():
    # Far weights of ALiBi's softmax underflow; a worker thread that kept them would be several times slower.
    (found,) = printed(
        "import torch\n"
        "from alibi.device import settle_cpu\n"
        "settle_cpu(2)\n"
        "x = torch.full((1_000_000,), 1e-30)\n"
        "print((x * 1e-10).count_nonzero().item())\n"
    )
    assert found == "0"


def test_threads_of_a_larger_machine_are_cut_to_the_cores_here():
    found, more, cores = printed(
        "import os, torch\n"
        "from alibi.device import settle_cpu\n"
        "before = torch.get_num_threads()\n"
        "settle_cpu(1)\n"
        "print(torch.get_num_threads())\n"
        "settle_cpu(100_000)\n"
        "print(torch.get_num_threads(), max(before, os.cpu_count()))\n"
    )
    assert found == "1" and int(more) <= int(cores)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process is bound to cores here")
def test_cores_are_those_that_the_process_may_use():
    found, threads = printed(
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "os.environ['OMP_NUM_THREADS'] = '1'\n"
        "import torch\n"
        "from alibi.device import cores, settle_cpu\n"
        "settle_cpu(100_000)\n"
        "print(cores(), torch.get_num_threads())\n"
    )
    assert (found, threads) == ("1", "1")


def test_a_device_that_is_not_there_says_what_is_missing():
    for device in DEVICES:
        assert is_here(device) == (not absence(device))
    assert is_here("cpu") and is_here(best_device())
    if not torch.backends.mps.is_built():
        assert "built without MPS" in absence("mps")
        told = r"scale laptop on device mps: this torch was built without MPS.*; --devi"
        with pytest.raises(TrainingError, match=told):
            require_device("laptop", "mps")
    with pytest.raises(InputError, match="unknown device 'metal'; choose from cpu, cuda, mps"):
        check_device("metal")


def test_an_old_gpu_gets_float32_and_one_that_is_not_here_is_planned_as_a_new_one(monkeypatch):
    for here, native, dtype in ((False, False, "bfloat16"), (True, True, "bfloat16"), (True, False, "float32")):
        monkeypatch.setattr("torch.cuda.is_available", lambda here=here: here)
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda native=native, including_emulation=True: native)
        assert compute_dtype("cuda") == dtype


def test_each_number_of_threads_has_a_rate_of_its_own():
    first, second, again = printed(
        "import torch; from alibi.device import matmul_rate, settle_cpu; torch.set_num_threads(2);"
        "a = matmul_rate('cpu', 'float32'); torch.set_num_threads(1); b = matmul_rate('cpu', 'float32');"
        "torch.set_num_threads(2); print(a, b, matmul_rate('cpu', 'float32'))"
    )
    assert first == again != second


def test_what_an_apple_gpu_can_not_do_is_refused_before_any_work():
    chosen = configure(RunSpec(method="alibi", scale="gpu", device="mps"), period_corpus())
    assert (chosen.device, chosen.dtype, chosen.compiled) == ("mps", "float32", False)
    with pytest.raises(InputError, match="kernel flex: it has no backward pass on mps; choose sdpa"):
        configure(RunSpec(method="alibi", device="mps", kernel="flex"), period_corpus())
    assert "flex" not in {
        choose_kernel("mps", n, True, b) for n in (64, 4096) for b in (NoBias(), MultipliedBias(torch.ones(8)))
    }
    assert float64_device(torch.device("mps")).type == "cpu" and widest_dtype(torch.device("mps")) == torch.float32


def test_a_device_is_known_again_by_its_name():
    assert kind_of(device_name("cpu")) == "cpu"
    assert [kind_of(name) for name in ("Apple M2 (MPS)", "NVIDIA H200", "arm (CPU)")] == ["mps", "cuda", "cpu"]


class Called(TorchDispatchMode):
    """Notes the names of torch's operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.names.add(function.__name__.removesuffix(".default"))
        return function(*arguments, **(keywords or {}))


def test_torch_has_every_operation_of_ours_for_an_apple_gpu():
    """By torch's own list of what each operation is implemented for, since such a GPU is rarely at hand."""
    listed = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    entries = {entry["func"].split("(")[0]: entry for entry in yaml.safe_load(listed.read_text())}

    def has(name):
        entry = entries.get(name, {"dispatch": {}})
        keys = ",".join(entry.get("dispatch", {"CompositeImplicit": ""}))
        return (
            "MPS" in keys
            or "Composite" in keys
            or ("structured_delegate" in entry and has(entry["structured_delegate"]))
        )

    shape = {
        "vocabulary_size": 600,
        "layers": 2,
        "width": 64,
        "heads": 4,
        "feedforward": 128,
        "longest": 40,
        **DROPOUTS,
    }
    tokens = torch.randint(600, (2, 41))
    with Called() as called:
        for method, cutoffs in itertools.product(METHODS, ((), (100, 300))):
            model = Decoder(ModelConfig(method, **shape, cutoffs=cutoffs))
            for recipe in RECIPES.values():
                optimizer, schedule, clip = recipe(model, 1e-3, 2, 10, None)
                model.negative_log_likelihood(tokens[:, :-1], tokens[:, 1:]).sum().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                schedule.step()
            model.generate(tokens[0, :5], 3, 0.8, torch.Generator().manual_seed(0))
    # Attention has one for each device, and a profiler's marks compute nothing.
    lacking = {name for name in called.names if not has(name) and "_for_cpu" not in name and "_record_fun" not in name}
    assert not lacking and has("_scaled_dot_product_attention_math_for_mps")
