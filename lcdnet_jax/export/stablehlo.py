"""Program files: networks with their weights as StableHLO, which JAX runs without this library.

A program file is an uncompressed zip archive of ``card.json`` and of StableHLO programs in the form
of ``jax.export``. Each program contains all weights. :mod:`lcdnet_jax.export.run_exported` runs it.
That file imports nothing else of this library.
"""

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence

import jax
import jax.export

from lcdnet_jax import atomic_io
from lcdnet_jax.export import run_exported
from lcdnet_jax.export._prepare import (
    DEFAULT_PLATFORMS,
    Sizes,
    prepare,
    symbolic_images,
    without_tracebacks,
)
from lcdnet_jax.export._verify import verify
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.typing import Json, JsonObject, Variables

# Of program files.
SUFFIX = ".jaxprog"


def export_program(
    module: RestorationNetwork,
    variables: Variables,
    *,
    sizes: Sizes | None = None,
    platforms: Sequence[str] = DEFAULT_PLATFORMS,
    about: Mapping[str, Json] | None = None,
) -> bytes:
    """Exports a network as the content of a program file.

    The content is verified on this machine, on the CPU if ``platforms`` includes it.
    :mod:`lcdnet_jax.export.run_exported` runs it on random images, and the results are compared
    with those of the network. With ``sizes``, one and two images of each size are compared. With a
    single size, a smaller image is compared, too, which the runner pads. Without ``sizes``, images
    of two small sizes are compared. The largest allowed difference is 1e-5 times the larger of 1
    and the largest absolute value, or 2e-2 times it for networks that compute in bfloat16 or
    float16.

    Args:
        module: A network of :mod:`lcdnet_jax.networks`.
        variables: Its variables, as a checkpoint gives them.
        sizes: Pairs of height and width in pixels, for a network that needs fixed sizes. Sides are
            at most :data:`MAX_SIDE` pixels, images at most :data:`MAX_PIXELS` pixels. None exports
            the network for any size.
        platforms: Names from :data:`PLATFORMS` of the platforms that will run the program, without
            repetitions.
        about: Additional entries for the card, as JSON values, such as the step of the checkpoint.

    Returns:
        The content of the file.

    Raises:
        ExportError: If an argument is out of range, the weights contain NaN or infinity, an image
            does not fit into memory, or the program gives other values than the network.
        ImportError: If flatbuffers is not installed.
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
    module: RestorationNetwork,
    variables: Variables,
    *,
    sizes: Sizes | None = None,
    platforms: Sequence[str] = DEFAULT_PLATFORMS,
    about: Mapping[str, Json] | None = None,
    force: bool = False,
) -> JsonObject:
    """Writes a program file, completely or not at all; see :func:`export_program`.

    Args:
        path: The file.
        module: As for :func:`export_program`.
        variables: As for :func:`export_program`.
        sizes: As for :func:`export_program`.
        platforms: As for :func:`export_program`.
        about: As for :func:`export_program`.
        force: Whether an existing file is replaced.

    Returns:
        The card, which ``card.json`` in the file contains.

    Raises:
        ExportError, ImportError: As for :func:`export_program`.
        TargetError: If the file may not be replaced. It is raised before the network is exported,
            if possible.
        OSError: If writing fails.
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


def _archive(card: JsonObject, programs: Mapping[str, bytes]) -> bytes:
    """Makes a zip file that depends only on its content, not on the time."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo("card.json"), json.dumps(card, indent=2) + "\n")
        for name, data in programs.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def _read_card(data: bytes) -> JsonObject:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return json.loads(file.read("card.json"))
