"""Program files: networks with their weights as StableHLO, which JAX runs without this library.

A program file is an uncompressed zip archive of ``card.json`` and of StableHLO programs in the form
of ``jax.export``, each with all weights inside. :mod:`lcdnet_jax.export.run_exported` runs it, a
file of its own that knows nothing else of this library.
"""

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.export

from lcdnet_jax import atomic_io
from lcdnet_jax.export import run_exported
from lcdnet_jax.export._prepare import (
    Sizes,
    prepare,
    symbolic_images,
    without_tracebacks,
)
from lcdnet_jax.export._verify import verify


def export_program(
    module: nn.Module,
    variables: Mapping[str, Any],
    *,
    sizes: Sizes | None = None,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """Makes a program file of a network.

    It is verified on this machine, on the CPU if that is among ``platforms``: the content of the
    file, run by :mod:`lcdnet_jax.export.run_exported`, and the network itself restore noise of two
    sizes and numbers of images: of each of ``sizes`` where they are given, and if that is one, of a
    smaller size too, which the runner pads to it. They may differ by 1e-5 of the larger of 1 and
    the largest value, networks that compute in bfloat16 or float16 by 2e-2.

    Args:
        module: A network of :mod:`lcdnet_jax.networks`.
        variables: Its variables, as a checkpoint gives them.
        sizes: (height, width) of images, for a network that needs to know, of up to
            :data:`MAX_SIDE` pixels a side and :data:`MAX_PIXELS` together; None for any size.
        platforms: Where the program is to run, of :data:`PLATFORMS`, each once.
        about: More for the card, in terms of JSON, such as the checkpoint's step.

    Returns:
        Content of the file.

    Raises:
        ExportError: For arguments that make no program, weights with NaN or infinity, sizes that
            do not fit into memory, or a program that gives other values than the network.
        ImportError: Without flatbuffers.
    """
    _check_flatbuffers()
    network = prepare(module, variables, sizes, platforms, about)
    card = network.card
    arguments = {
        f"{'x'.join(map(str, size)) if size else 'any'}.bin": symbolic_images(card, size)
        for size in card["sizes"] or [None]
    }
    programs = {}
    for name, argument in arguments.items():
        with without_tracebacks():
            exported = jax.export.export(jax.jit(network.apply), platforms=tuple(platforms))(
                argument
            )
        programs[name] = bytes(exported.serialize())
    card |= {"format": run_exported.FORMAT, "programs": list(programs)}
    restore = run_exported.load(io.BytesIO(_archive(card, programs)), device=network.device)
    card["verified"] = verify(restore, network)
    return _archive(card, programs)


def write(
    path: str | os.PathLike[str],
    module: nn.Module,
    variables: Mapping[str, Any],
    *,
    sizes: Sizes | None = None,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    about: Mapping[str, Any] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Writes a program file, all or nothing; see :func:`export_program`.

    Args:
        path: The file.
        module: This and the next four as for :func:`export_program`.
        variables: The network's.
        sizes: Of images, or None.
        platforms: Where the program is to run.
        about: More for the card.
        force: Replace the file where it exists.

    Returns:
        The file's card.

    Raises:
        ExportError, ImportError: As :func:`export_program`.
        TargetError, OSError: As :func:`lcdnet_jax.atomic_io.check_file`, before the network is
            exported, and :func:`lcdnet_jax.atomic_io.write`.
    """
    atomic_io.check_file(path, force=force)
    data = export_program(module, variables, sizes=sizes, platforms=platforms, about=about)
    atomic_io.make_folder(path)
    atomic_io.write(path, data, force=force)
    return _read_card(data)


def _check_flatbuffers() -> None:
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"JAX writes programs with flatbuffers, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[export]"'
        ) from error


def _archive(card: dict[str, Any], programs: Mapping[str, bytes]) -> bytes:
    """A zip file, the same for the same content."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo("card.json"), json.dumps(card, indent=2) + "\n")
        for name, data in programs.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def _read_card(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return json.loads(file.read("card.json"))
