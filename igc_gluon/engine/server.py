"""The parameter servers and the scheduler of a distributed run: `python -m igc_gluon.engine.server`, with DMLC_ROLE.

MXNet has a server of its own, which begins inside `import mxnet`. It unpickles the optimizer that a worker sends, so
that whoever reaches the port can run anything, and nobody reaches the optimizer's rate and state any more. Here
commands are JSON, and the momentum is the stored value of a key, to be pushed and pulled like any other.

Only `dist_async` gives commands: `{}` at its start, `{"optimizer": {"momentum": 0.9, "wd": 0.0001, "lr": 0.1}}`,
`{"lr": 0.01}`. In `dist_sync` a server adds up what the workers push.
"""

import ctypes
import json
import os
import socket
import sys
from typing import Any, Dict, NoReturn

from igc_gluon import environment
from igc_gluon.exits import exit_code
from igc_gluon.launch import heartbeat, variables

WEIGHTS, STATE = 0, 1  # keys: flat arrays, of which each server has its slice


def serve(role: str) -> int:
    """Runs as `role`, "server" or "scheduler", until the workers are done; returns the exit code.

    Raises UserError where the environment does not say all that it needs, or what MXNet cannot read.
    """
    environment.check()
    variables.check()
    # Hidden from the import, or MXNet's own server would begin there and never return.
    os.environ.pop("DMLC_ROLE", None)
    # slow: MXNet, whose import would begin to serve
    import mxnet as mx
    from mxnet.base import _LIB, check_call

    os.environ["DMLC_ROLE"] = role
    heartbeat.begin()
    store = mx.kv.create("dist")
    rule = AsynchronousRule(int(os.environ["DMLC_NUM_WORKER"]))

    def handle_command(head: int, body: bytes, _: Any) -> None:
        # An exception would be lost in ctypes, and training would go on without its optimizer.
        try:
            rule.handle_command(json.loads(body))
            store._set_updater(update)
        except Exception as error:
            _end(f"a command that is not understood ({error!r}); this server takes no pickles")

    def update(key: int, pushed: Any, stored: Any) -> None:
        try:
            rule(key, pushed, stored)
        except Exception as error:
            _end(f"an update failed ({error!r})")

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    if role == "scheduler" and os.environ["DMLC_PS_ROOT_PORT"] == "0":
        with socket.socket() as free:
            free.bind(("", 0))
            os.environ["DMLC_PS_ROOT_PORT"] = str(free.getsockname()[1])
        print(f"port {os.environ['DMLC_PS_ROOT_PORT']}", flush=True)
    try:
        check_call(_LIB.MXKVStoreRunServer(store.handle, kind(handle_command), None))
    except mx.MXNetError as error:
        _end(
            f"{str(error).splitlines()[-1]}; is {os.environ['DMLC_PS_ROOT_URI']} an address of the launcher's machine?"
        )
    return 0


def _end(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(2)


class AsynchronousRule:
    """What a push does in `dist_async`: an update for WEIGHTS, a new value for STATE, and for any other key a sum:
    of `workers` pushes the first takes the place of what is stored, the others are added to it."""

    def __init__(self, workers: int):
        self.workers = workers
        self.optimizer: Any = None
        self.state: Any = None
        self._pushes: Dict[int, int] = {}

    def handle_command(self, command: Dict[str, Any]) -> None:
        # slow: MXNet, whose import would begin to serve
        from igc_gluon.engine.optimizer import AuthorsNesterov

        if "optimizer" in command:
            numbers = command["optimizer"]
            self.optimizer = AuthorsNesterov(
                momentum=numbers["momentum"], wd=numbers["wd"], learning_rate=numbers["lr"]
            )
        elif "lr" in command:
            self.optimizer.set_learning_rate(command["lr"])

    def __call__(self, key: int, pushed: Any, stored: Any) -> None:
        if key == WEIGHTS:
            self.optimizer.update(WEIGHTS, stored, pushed, self.state)
        elif key == STATE:
            stored[:] = pushed
            self.state = stored  # the array that a pull reads, from here on updated in place
        else:
            count = self._pushes.get(key, 0)
            stored[:] = pushed if count % self.workers == 0 else stored + pushed
            self._pushes[key] = count + 1


if __name__ == "__main__":
    sys.exit(exit_code(lambda: serve(variables.role() or "")))
