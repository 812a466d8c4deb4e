"""Compilation in the commands: faster, and with a cache of compiled programs.

Only the program ``lcdnet-jax`` and the scripts do this. ``import lcdnet_jax`` changes nothing of
JAX.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from typing import Any

from lcdnet_jax import storage
from lcdnet_jax.messages import escape_line

# With a value such as 1 the folder is not used, as with --no-compilation-cache.
VARIABLE = "LCDNET_JAX_NO_COMPILATION_CACHE"

# Without unrolled loops, LLVM compiles networks in half of the time; programs are as fast.
_NO_UNROLLING = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Programs that were not used for so long are deleted, and beyond so many bytes the ones that were
# not used for longest. Not ``jax_compilation_cache_max_size``: it needs filelock, and a process
# that is killed while it writes leaves a program without a time, after which nothing is kept.
_MOST_DAYS = 90
_MOST_BYTES = 10**9

_folder: pathlib.Path | None = None  # set by use_cache
_show_in_full = warnings.showwarning


def set_environment(*, quiet: bool) -> None:
    """Sets what XLA and Python read when they start. Call it before JAX is imported.

    Does nothing after that, and changes no variable that the user has set to something else.

    Args:
        quiet: Whether XLA may not log errors, which also come as exceptions. On some processors of
            Intel it logs one for every kept program: it takes its own tuning, such as
            prefer-no-gather, for features that the processor lacks (github.com/openxla/xla, issue
            44565). XLA can hide all errors or none.
    """
    if "jax" in sys.modules:
        return
    gc.set_threshold(50_000, 20, 20)  # imports and tracing make many objects that stay
    flags = os.environ.get("XLA_FLAGS", "")
    if _NO_UNROLLING.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_NO_UNROLLING}".strip()
    if quiet:
        hide_errors()


def set_network_options(name: str) -> None:
    """Adds XLA's options for a network on a CPU. Call it before JAX starts its devices.

    XLA reads ``XLA_FLAGS`` once, when the devices start: later calls change nothing. Options that
    the user has set stay as they are.

    Args:
        name: A registered network. Its ``xla_cpu_options`` are added.
    """
    from lcdnet_jax import networks

    flags = os.environ.get("XLA_FLAGS", "")
    if _NO_UNROLLING in flags.split():
        wanted = ",".join([_NO_UNROLLING, *networks.get(name).xla_cpu_options])
        os.environ["XLA_FLAGS"] = flags.replace(_NO_UNROLLING, wanted)


def hide_errors() -> None:
    """Imports JAX so that XLA logs no errors, see :func:`set_environment`.

    Does nothing if JAX is imported already, or if the user has set what XLA logs.
    """
    if "jax" in sys.modules or _LOG_LEVEL in os.environ:
        return
    os.environ[_LOG_LEVEL] = "3"
    import jax  # noqa: F401

    del os.environ[_LOG_LEVEL]  # processes that this one starts log as usual


def is_allowed(environment: Mapping[str, str]) -> bool:
    """Tells whether the environment lets commands keep compiled programs."""
    return environment.get(VARIABLE, "").strip().lower() in ("", "0", "false", "no", "off")


def use_cache(parent: pathlib.Path | None = None) -> None:
    """Keeps compiled programs for the next start, and takes them from there.

    A folder that JAX already has (``JAX_COMPILATION_CACHE_DIR``) is used instead. If it is a file,
    or the folder cannot be used, or others can write to it, one line on standard error says so.

    Args:
        parent: Folder, local or in a bucket, in which ``compiled/`` holds the programs. None: that
            of the user for caches.
    """
    import jax

    given = jax.config.values["jax_compilation_cache_dir"]
    if given is not None:
        if os.path.isfile(given):  # JAX would warn for each program
            _print_unused(f"{given} is a file")
            jax.config.update("jax_compilation_cache_dir", None)
        return
    try:
        if parent is None:
            folder = find_folder(os.environ)
        else:
            folder = parent / "compiled" / _name_machine()
        if not storage.is_bucket(folder):
            _create(folder)
    except (OSError, RuntimeError) as error:
        _print_unused(getattr(error, "strerror", None) or str(error).rstrip("."))
        return
    if not storage.is_bucket(folder):  # where a list is slow and costs money
        _prune(folder.parent)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    global _folder, _show_in_full
    if warnings.showwarning is not _show:
        _show_in_full = warnings.showwarning
    _folder, warnings.showwarning = folder, _show


def _print_unused(reason: str) -> None:
    line = (
        f"compiled programs are not kept for the next start: {reason}; set "
        f"JAX_COMPILATION_CACHE_DIR to another folder, or {VARIABLE}=1"
    )
    print(escape_line(line), file=sys.stderr)


def describe_warning(text: str) -> str:
    """Describes a warning of JAX about the folder in plain words, and deletes damaged programs.

    JAX writes a program in place and never writes it again, so one that was cut off by a full disk
    or a killed process would stay. JAX warns before it compiles and writes, so what is deleted then
    is replaced. The warning does not name the file, so all programs in the folder are deleted.

    Args:
        text: Any warning.

    Returns:
        The description, or ``text`` if it is about something else or another folder.
    """
    import jax

    cache = jax.config.values["jax_compilation_cache_dir"]
    if _folder is None or cache != str(_folder):
        return text
    if text.startswith("Error reading persistent compilation cache"):
        _delete_programs(_folder)
        return f"a compiled program in {_folder} is damaged; it is compiled again"
    if text.startswith("Error writing persistent compilation cache"):
        reason = text.partition("': ")[2]
        return f"compiled programs cannot be kept in {_folder}: {reason}"
    return text


def find_folder(environment: Mapping[str, str]) -> pathlib.Path:
    """Names the folder of compiled programs for this machine and these versions.

    Args:
        environment: The environment variables, such as ``os.environ``.

    Returns:
        A folder in that of the system for caches. Its name is a hash of the processor and of the
        versions of JAX, because a program may not run on another processor.

    Raises:
        RuntimeError: If the folder for caches is in the user's home, and the user has none.
    """
    if sys.platform == "win32":
        variable, default = "LOCALAPPDATA", "AppData/Local"
    elif sys.platform == "darwin":
        variable, default = "", "Library/Caches"
    else:
        variable, default = "XDG_CACHE_HOME", ".cache"
    caches = environment.get(variable, "")
    if not os.path.isabs(caches):  # the specification of XDG ignores relative paths
        caches = str(pathlib.Path.home() / default)
    return pathlib.Path(caches, "lcdnet-jax", "compiled", _name_machine())


def _name_machine() -> str:
    """The name of the folder for this machine and these versions."""
    versions = [importlib.metadata.version(package) for package in ("jax", "jaxlib")]
    identity = "\n".join([*versions, platform.system(), _describe_processor()])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _describe_processor() -> str:
    """The processor and its instruction sets, as far as the system tells."""
    known = {"model name", "flags", "CPU implementer", "CPU part", "Features"}
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    lines = {line for line in text.splitlines() if line.partition(":")[0].strip() in known}
    return "\n".join([platform.machine(), *sorted(lines)])


def _create(folder: pathlib.Path) -> None:
    """Creates the folder and two above it for this user alone.

    Raises:
        OSError: If it cannot be written, or another user could place programs in it, which this
            process would run.
    """
    try:
        folder.parents[2].mkdir(parents=True, exist_ok=True)
        for each in (folder.parents[1], folder.parents[0], folder):
            each.mkdir(exist_ok=True, mode=0o700)
            if hasattr(os, "geteuid"):
                _check_owner(each)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno is None:  # of _check_owner
            raise
        raise OSError(error.errno, f"cannot write to {folder} ({error.strerror})") from None


def _check_owner(folder: pathlib.Path) -> None:
    """Raises OSError for a folder, or a link to it, of another user or writable for others."""
    found = folder.stat()
    if {found.st_uid, folder.lstat().st_uid} != {os.geteuid()}:
        raise OSError(None, f"{folder} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(None, f"other users can write to {folder} (chmod go-w forbids it)")


def _prune(root: pathlib.Path) -> None:
    """Deletes programs, of all versions, that were not used for long or are too many."""
    files = []
    for path in root.rglob("*"):
        try:
            found = path.lstat()
        except OSError:  # another process was faster
            continue
        if stat.S_ISREG(found.st_mode):
            files.append((max(found.st_atime, found.st_mtime), found.st_size, path))
    oldest, total = time.time() - _MOST_DAYS * 86400, 0
    for used, size, path in sorted(files, reverse=True):
        total += size
        if used < oldest or total > _MOST_BYTES:
            _delete(path)


def _show(message: Warning | str, category: type[Warning], *arguments: Any, **options: Any) -> None:
    """Shows a warning: this library's and JAX's about the folder in one line, others as Python."""
    text = describe_warning(str(message))
    if text == str(message) and not category.__module__.startswith("lcdnet_jax."):
        _show_in_full(message, category, *arguments, **options)
    else:
        print(f"warning: {text}", file=sys.stderr)


def _delete_programs(folder: pathlib.Path) -> None:
    if not storage.is_bucket(folder):
        for path in folder.glob("*-cache"):
            _delete(path)
        return
    with contextlib.suppress(OSError):  # the bucket does not answer, or another process was faster
        for name in storage.list_files(folder):
            if name.endswith("-cache"):
                storage.remove(folder / name)


def _delete(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # deleted by another process, or in use on Windows
        path.unlink()
