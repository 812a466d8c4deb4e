"""Agreement between the processes of a run; with one process nothing is asked.

Processes that decide differently wait for each other without end, so what depends on a disk is
decided by process 0. All must call these functions, in the same order.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")


def in_first(action: Callable[[], T], *errors: type[Exception]) -> T:
    """What an action of process 0 gives or raises, in every process.

    Args:
        action: Takes no arguments and gives what JSON can hold; called in process 0 only.
        *errors: Kinds of exceptions that are raised as they are, made of one text (their
            ``problem``, if they have one, else their message).

    Raises:
        RuntimeError: In several processes, for other exceptions of the action; in one process
            those come as they are.
    """
    if jax.process_count() == 1:
        return action()
    from jax.experimental import multihost_utils

    outcome: dict[str, Any] = {}
    if jax.process_index() == 0:
        try:
            outcome = {"result": action()}
        except Exception as error:  # whatever it is, the others must not wait
            known = type(error) in errors
            text = getattr(error, "problem", str(error)) if known else repr(error)
            outcome = {"error": type(error).__name__, "text": text}
    encoded = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(encoded.size)))
    received = multihost_utils.broadcast_one_to_all(np.resize(encoded, size))
    outcome = json.loads(received.tobytes())
    if "error" in outcome:
        kinds = {kind.__name__: kind for kind in errors}
        raise kinds.get(outcome["error"], RuntimeError)(outcome["text"])
    return outcome["result"]


def all_succeeded(here: bool) -> bool:
    """Whether all processes did; none goes on before all have come here."""
    if jax.process_count() == 1:
        return here
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(here)).all())
