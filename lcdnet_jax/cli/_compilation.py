"""How the commands compile: quickly, and once, because compiled programs are kept in a folder.

Only the program ``lcdnet-jax`` does this. ``import lcdnet_jax`` changes nothing of JAX.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Mapping

# Any value keeps the folder from being used, as --no-compilation-cache does.
OFF = "LCDNET_JAX_NO_COMPILATION_CACHE"

# Without loops unrolled, LLVM compiles SADNet in a third of the time, and the programs are as fast.
_QUICK = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"


def set_environment(*, debug: bool) -> None:
    """Sets what XLA reads when it starts. Call it before JAX is imported.

    Does nothing after that, and changes no variable that the user has set to something else.

    Args:
        debug: Whether XLA may log errors. They also come as exceptions, and it takes programs that
            were compiled for this very machine for those of another one.
    """
    if "jax" in sys.modules:
        return
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    flags = os.environ.get("XLA_FLAGS", "")
    if _QUICK.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_QUICK}".strip()


def use_cache() -> None:
    """Keeps compiled programs in the user's folder for caches, and takes them from there.

    A folder that JAX already has (``JAX_COMPILATION_CACHE_DIR``) is used instead. If the folder
    cannot be written, one line on standard error says so.
    """
    if os.environ.get(OFF):
        return
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = find_folder(os.environ)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        print(
            f"compiled programs are not kept for the next start: cannot write to {folder} "
            f"({error.strerror}); set JAX_COMPILATION_CACHE_DIR to another folder, or {OFF}=1",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def find_folder(environment: Mapping[str, str]) -> pathlib.Path:
    """Names the folder of compiled programs for this machine and these versions.

    Args:
        environment: The environment variables, such as ``os.environ``.

    Returns:
        A folder in that of the system for caches. Its name is a hash of the processor and of the
        versions of JAX, because a program may not run on another processor.
    """
    home = pathlib.Path.home()
    if sys.platform == "win32":
        caches = environment.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    else:
        caches = environment.get("XDG_CACHE_HOME") or home / ".cache"
    versions = [importlib.metadata.version(package) for package in ("jax", "jaxlib")]
    identity = "\n".join([*versions, platform.platform(), _describe_processor()])
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return pathlib.Path(caches, "lcdnet-jax", "compiled", name)


def _describe_processor() -> str:
    """The processor and its instruction sets, as far as the system tells."""
    known = {"model name", "flags", "CPU implementer", "CPU part", "Features"}
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    lines = {line for line in text.splitlines() if line.partition(":")[0].strip() in known}
    return "\n".join([platform.machine(), *sorted(lines)])
