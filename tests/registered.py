"""Networks of the tests by name, and none of them afterwards."""

import contextlib

from lcdnet_jax import networks


@contextlib.contextmanager
def registered(name, cls):
    """Registers a network while the context lasts, in place of any other of that name."""
    known = dict(networks._REGISTRY)
    networks._REGISTRY.pop(name, None)
    try:
        networks.register(name, cls)
        yield
    finally:
        networks._REGISTRY.clear()
        networks._REGISTRY.update(known)
