"""What a CPU is told before it works: each in a process of its own, since it holds for the whole process."""

import subprocess
import sys

import pytest


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
