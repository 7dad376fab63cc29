"""Processes of their own, forked in milliseconds from a server that has imported torch and has computed nothing."""

import multiprocessing
import os

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
