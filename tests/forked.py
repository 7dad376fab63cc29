"""Processes of their own, forked in milliseconds from a server that has imported torch and has computed nothing."""

import multiprocessing
import os
from contextlib import contextmanager

import torch.distributed as dist

PRELOADED = ["alibi.__main__", "alibi.runs", "torch._dynamo"]
HANGS_AFTER = 600  # seconds: longer than anything takes on a slow machine


def context():
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server


def start(function, *arguments):
    """A process that calls a function of a module, in the environment of this moment and not that of the server."""
    process = context().Process(target=_call, args=(dict(os.environ), function, arguments))
    process.start()
    return process


def _call(environment, function, arguments):
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def status(process):
    """Its exit status, minus the signal that ended it."""
    process.join(HANGS_AFTER)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{process} hangs")
    return process.exitcode


@contextmanager
def environment(**values):
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def started(size, function, *arguments):
    """A group of processes, each of which calls the function, and the store in which they meet: as with torchrun."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    common |= {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1"}
    group = []
    for rank in range(size):
        with environment(RANK=str(rank), LOCAL_RANK=str(rank), **common):
            group.append(start(function, *arguments))
    return group, store


def together(size, function, *arguments):
    """Exit statuses of a group of processes, each of which calls the function."""
    group, _store = started(size, function, *arguments)
    return [status(process) for process in group]
