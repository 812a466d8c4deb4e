"""What must happen before JAX is imported. The scripts import this module first.

They compile as the program ``lcdnet-jax`` does, see
:func:`lcdnet_jax.cli._compilation.set_environment`. On a machine without accelerators XLA may not
log errors, because on many processors it logs one for every program that it takes from the cache,
and the C library keeps freed memory for the next step. Where JAX has a plugin for an accelerator,
XLA logs as usual, and memory is left alone.
"""

import importlib.util
import os

from lcdnet_jax import freed_memory
from lcdnet_jax.cli import _compilation


def _has_accelerator_plugin() -> bool:
    return any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))


_on_cpu = not _has_accelerator_plugin()
_compilation.set_environment(quiet=_compilation.is_allowed(os.environ) and _on_cpu)
if _on_cpu:
    freed_memory.keep_freed_memory()
