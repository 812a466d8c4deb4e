"""ONNX files, for ONNX Runtime and the many programs that read this format.

A file has the input "images", ``[N, H, W, C]`` float32 in [0, 1], and the output "restored". N is
any number. H and W are any multiples of the network's stride, or the one size that was asked for.
:mod:`lcdnet_jax.export.run_onnx` runs files without JAX; it pads images to the stride and cuts
large ones into windows. Its module imports nothing else of this library.

The converter is part of this library, because jax2onnx 0.17.1 exported 6 of the 14 networks at a
fixed size and 3 at any size, with shapes of which ONNX Runtime warned (2026-11-30). It translates
the trace of the network (``_onnx_primitives``), and functions of :mod:`lcdnet_jax.ops` for which
ONNX has operators, such as ``DeformConv``, as these (``_onnx_operators``). Fourier transforms
become matrix products with cosines and sines, which the file computes for the size of the image.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax import atomic_io, networks
from lcdnet_jax._version import __version__
from lcdnet_jax.export._prepare import ExportError, Network, prepare, symbolic_images
from lcdnet_jax.export._verify import verify
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.ops.operators import keep_operators
from lcdnet_jax.typing import Json, JsonObject, Variables

# Of ONNX files.
SUFFIX = ".onnx"

#: Compute types of exported networks.
DTYPES = ("float32", "float16")

#: Networks that are exported for one size only, and why. All others take any size, unless they have
#: local_pool.
NEEDS_SIZE = {"n3net": "the neighborhoods of its patches are tables for one size of images"}

_FIX = "give one, as in size=(256, 256); larger images are cut into windows of it"

# Largest difference from the live network in float32, relative to the larger of 1 and its largest
# value.
_TOLERANCE = {"float32": 1e-4, "float16": 2e-2}


def export_onnx(
    module: RestorationNetwork,
    variables: Variables,
    *,
    size: tuple[int, int] | None = None,
    dtype: str = "float32",
    about: Mapping[str, Json] | None = None,
) -> bytes:
    """Exports a network as the content of an ONNX file.

    ONNX Runtime runs the content on this machine's CPU, and the results are compared with those of
    the network in float32: random images and a photograph, one and two images, at two sizes or the
    given one (and at half of it, which the runner pads). The largest allowed difference is 1e-4
    times the larger of 1 and the largest absolute value, or 2e-2 times it for float16.

    Args:
        module: A network of :mod:`lcdnet_jax.networks`.
        variables: Its variables, as a checkpoint gives them.
        size: Height and width in pixels, multiples of the network's stride, for the networks of
            :data:`onnx.NEEDS_SIZE`, for those with ``local_pool``, and for runtimes that need to
            know sizes. None exports the network for any size.
        dtype: One of :data:`onnx.DTYPES`. float16 halves the file. What the networks compute in
            float32 also for shorter types stays float32: normalization, sampling positions and the
            like.
        about: Additional entries for the card, as JSON values, such as the step of the checkpoint.

    Returns:
        The content of the file. Its metadata has the card as "lcdnet_jax".

    Raises:
        ExportError: If an argument is out of range, the weights contain NaN or infinity, the
            network uses something that has no form in ONNX here, an image does not fit into memory,
            or the file gives other values than the network.
        ImportError: If onnx, onnxruntime or scikit-image is not installed.
    """
    packages = _import_packages()
    if dtype not in DTYPES:
        raise ExportError(f"dtype must be {' or '.join(DTYPES)}, got {dtype!r}")
    networks.check_module(module)
    _check_size(module, size)
    module = module.clone(dtype=jnp.float32)
    with keep_operators():  # with which more networks can be traced for any size
        sizes = None if size is None else [size]
        network = prepare(module, variables, sizes, ("cpu",), about, fix=_FIX)
    card = network.card
    del card["platforms"]
    card |= {
        "format": packages.run_onnx.FORMAT,
        "opset": packages.graph.OPSET,
        "dtype": dtype,
        "tile_overlap": module.tile_overlap,
        "global_means": module.global_means,
        "license": card["about"].get("licence", ""),
    }
    model = _convert(packages, network)
    restore = packages.run_onnx.load(_add_card(packages, model, card))
    card["verified"] = verify(restore, network, tolerance=_TOLERANCE, make_photo=_make_photo)
    return _add_card(packages, model, card)


def write_onnx(
    path: str | os.PathLike[str],
    module: RestorationNetwork,
    variables: Variables,
    *,
    size: tuple[int, int] | None = None,
    dtype: str = "float32",
    about: Mapping[str, Json] | None = None,
    force: bool = False,
) -> JsonObject:
    """Writes an ONNX file, completely or not at all; see :func:`export_onnx`.

    Args:
        path: The file.
        module: As for :func:`export_onnx`.
        variables: As for :func:`export_onnx`.
        size: As for :func:`export_onnx`.
        dtype: As for :func:`export_onnx`.
        about: As for :func:`export_onnx`.
        force: Whether an existing file is replaced.

    Returns:
        The card, which the file contains.

    Raises:
        ExportError, ImportError: As for :func:`export_onnx`.
        TargetError: If the file may not be replaced. It is raised before the network is exported,
            if possible.
        OSError: If writing fails.
    """
    atomic_io.check_file(path, force=force)
    data = export_onnx(module, variables, size=size, dtype=dtype, about=about)
    atomic_io.make_folder(path)
    atomic_io.write(path, data, force=force)
    return read_card(data)


def read_card(data: bytes) -> JsonObject:
    """Reads the card of an ONNX file.

    Args:
        data: The content of the file.

    Returns:
        The card that :func:`write_onnx` returned.
    """
    packages = _import_packages()
    model = packages.onnx.load_from_string(data)
    cards = [entry.value for entry in model.metadata_props if entry.key == packages.run_onnx.CARD]
    return json.loads(cards[0])


class _Packages:
    """What needs onnx or onnxruntime, imported only for an export."""

    def __init__(self) -> None:
        import onnx
        import onnxruntime  # noqa: F401
        import skimage.data

        from lcdnet_jax.export import _onnx_graph, _onnx_primitives, run_onnx

        self.onnx: Any = onnx
        self.photo = skimage.data.astronaut
        self.graph = _onnx_graph
        self.primitives = _onnx_primitives
        self.run_onnx = run_onnx


def _import_packages() -> _Packages:
    try:
        return _Packages()
    except ImportError as error:
        raise ImportError(
            "an ONNX file needs onnx, onnxruntime and scikit-image, which cannot be imported "
            f'({error}); run\n  pip install "lcdnet-jax[onnx]"'
        ) from error


def _check_size(module: RestorationNetwork, size: tuple[int, int] | None) -> None:
    if size is None:
        return
    stride = module.stride
    if any(side % stride for side in size):
        height, width = (side + -side % stride for side in size)
        raise ExportError(
            f"{type(module).__name__} takes sides that are multiples of its stride, {stride}, got "
            f"{size[0]}x{size[1]}; use {height}x{width}"
        )


def _convert(packages: _Packages, network: Network) -> Any:
    """Converts the network, unverified, to a model without metadata."""
    card = network.card
    module = network.module.clone(dtype=jnp.dtype(card["dtype"]))
    images = symbolic_images(card, card["sizes"][0] if card["sizes"] else None)

    def apply(x: Any) -> Any:
        return module.apply(network.variables, x)

    with keep_operators():
        traced = jax.make_jaxpr(apply)(images)
    graph = packages.graph.Graph("images", images.shape)
    try:
        (restored,) = packages.primitives.add_function(graph, traced, [graph.input])
    except packages.primitives.UnsupportedError as error:
        raise ExportError(
            f"{card['network']} cannot be exported as ONNX, since it uses {error}, which has no "
            "form there; export it as .jaxprog"
        ) from error
    return graph.make_model(
        card["network"],
        graph.expand(restored, traced.out_avals[0].shape),
        "restored",
        producer_name="lcdnet_jax",
        producer_version=__version__,
    )


def _add_card(packages: _Packages, model: Any, card: JsonObject) -> bytes:
    packages.onnx.helper.set_model_props(model, {packages.run_onnx.CARD: json.dumps(card)})
    return model.SerializeToString(deterministic=True)


def _make_photo(height: int, width: int, channels: int) -> np.ndarray:
    """A photograph of scikit-image, mirrored where it is too small: ``[H, W, C]`` float32."""
    photo = _import_packages().photo().astype(np.float32) / 255
    if channels == 1:
        photo = photo.mean(axis=-1, keepdims=True)
    photo = np.concatenate([photo] * -(-channels // photo.shape[-1]), axis=-1)[..., :channels]
    margin = [
        (0, max(0, side - full)) for side, full in zip((height, width), photo.shape, strict=False)
    ]
    return np.pad(photo, [*margin, (0, 0)], mode="reflect")[:height, :width]
