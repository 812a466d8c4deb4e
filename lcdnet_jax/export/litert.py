"""LiteRT (TensorFlow Lite) files, for phones and other small devices.

A file takes one image of one size. The runtime gives it a signature with the input "images",
``[1, H, W, C]`` float32 in [0, 1], and the output "restored"::

    from ai_edge_litert.interpreter import Interpreter

    restore = Interpreter("model.tflite").get_signature_runner()
    restored = restore(images=image)["restored"]

The card is ``card.json`` of the zip archive that follows the program in the file, as the format
provides for associated files: ``unzip -p model.tflite card.json`` shows it.
"""

import contextlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import numpy as np
from jax import Array

from lcdnet_jax import atomic_io, networks
from lcdnet_jax.export._prepare import ExportError, Network, prepare, without_tracebacks
from lcdnet_jax.export._verify import compare_results, verify
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.typing import Json, JsonObject, Variables

SUFFIX = ".tflite"

#: How weights may be stored. Dynamic range: weights of 8 bits, computed with activations of 8 bits
#: where the runtime can, and results of float32.
QUANTIZATIONS = ("int8",)

#: Registered networks that cannot be exported, and why.
UNSUPPORTED = {
    "n3net": "it adds up overlapping patches (scatter), for which LiteRT has no operation",
}

# Largest difference of float32 from the live network, as in _verify.
_TOLERANCE = {"float32": 1e-4}

# Standard deviation of the noise on photographs for the comparison of quantized weights. Without
# noise, networks for restoration change little, and so do coarser weights.
_NOISE = 25 / 255

# PSNR in dB between the results of quantized weights and of the network. Below, files are refused.
_LOWEST_PSNR = 30.0


def write_litert(
    path: str | os.PathLike[str],
    module: RestorationNetwork,
    variables: Variables,
    *,
    size: tuple[int, int],
    quantize: str | None = None,
    about: Mapping[str, Json] | None = None,
    force: bool = False,
) -> JsonObject:
    """Writes a LiteRT file, completely or not at all.

    The file is run by LiteRT on this machine and compared with the network before it is written. In
    float32 the largest allowed difference is 1e-4 times the larger of 1 and the largest absolute
    value. With quantized weights, results are compared on noisy photographs of scikit-image, and a
    PSNR below 30 dB between those of the file and those of the network is an error.

    Args:
        path: The file.
        module: As for :func:`export_program`.
        variables: As for :func:`export_program`.
        size: Height and width of the image in pixels.
        quantize: One of :data:`litert.QUANTIZATIONS`; None for float32.
        about: As for :func:`export_program`.
        force: Whether an existing file is replaced.

    Returns:
        The card, which the file contains. With ``quantize`` its entry "quantization" has the PSNR.

    Raises:
        ExportError: As for :func:`export_program`, and for networks that LiteRT cannot run, see
            :data:`litert.UNSUPPORTED`.
        TargetError: If the file may not be replaced. It is raised before the network is exported,
            if possible.
        OSError: If writing fails.
        ImportError: If TensorFlow or LiteRT is not installed.
    """
    atomic_io.check_file(path, force=force)
    if quantize not in (None, *QUANTIZATIONS):
        raise ExportError(f"quantize must be {' or '.join(QUANTIZATIONS)}, got {quantize!r}")
    check_supported(module)
    packages = _import_packages()
    network = prepare(module, variables, [size], ("cpu",), about)
    card = network.card
    # Not of programs of JAX.
    card |= {"format": "LiteRT", "batch": 1, "quantization": None}
    data = _convert(packages, network, quantize)
    restore = _load(packages, _append_card(data, card))
    if quantize is None:
        card["verified"] = verify(restore, network, pads=False, tolerance=_TOLERANCE)
    else:
        card["quantization"] = _measure_quantization(restore, network, quantize)
    atomic_io.make_folder(path)
    atomic_io.write(path, _append_card(data, card), force=force)
    return card


def check_supported(module: RestorationNetwork) -> None:
    """Checks that LiteRT has the operations of a network.

    Args:
        module: The network.

    Raises:
        ExportError: If it is one of :data:`UNSUPPORTED`.
    """
    for name, reason in UNSUPPORTED.items():
        if isinstance(module, networks.get(name)):
            raise ExportError(
                f"{type(module).__name__} cannot be exported for LiteRT: {reason}; export it as "
                ".jaxprog or SavedModel"
            )


def read_card(path: str | os.PathLike[str]) -> JsonObject:
    """Reads the card of a LiteRT file.

    Args:
        path: The file.

    Returns:
        The card that :func:`write_litert` returned.

    Raises:
        ExportError: If the file has none.
        OSError: If it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as file:
            card: JsonObject = json.loads(file.read("card.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ExportError(f"{path} has no card of lcdnet_jax ({error}); export it again") from error
    return card


def _import_packages() -> tuple[Any, Any, Any]:
    try:
        with _hide_standard_error():  # TensorFlow announces its options
            import tensorflow as tf
            from ai_edge_litert.interpreter import Interpreter
            from jax.experimental import jax2tf
    except ImportError as error:
        raise ImportError(
            f"a LiteRT file needs TensorFlow and ai-edge-litert, which cannot be imported "
            f'({error}); run\n  pip install "lcdnet-jax[litert]"'
        ) from error
    return tf, jax2tf, Interpreter


def _convert(packages: tuple[Any, Any, Any], network: Network, quantize: str | None) -> bytes:
    """Converts a network, unverified."""
    tf, jax2tf, _ = packages
    card = network.card
    (height, width), channels = card["sizes"][0], card["channels"]
    # As arrays of JAX. With those of NumPy the converter stops at products of small matrices.
    variables = jax.device_put(network.variables, network.device)
    module = _without_complex_numbers(network.module)

    def apply(images: Array) -> Array:
        with nn.intercept_methods(_convolve):
            return cast(Array, module.apply(variables, images))

    converted = jax2tf.convert(
        apply,
        with_gradient=False,
        native_serialization_platforms=("cpu",),
    )
    images = tf.TensorSpec([1, height, width, channels], tf.float32, "images")
    model = tf.Module()
    model.restore = tf.function(
        lambda images: {"restored": converted(images)}, autograph=False, input_signature=[images]
    )
    with without_tracebacks(), _hide_standard_error():
        function = model.restore.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        try:
            return bytes(converter.convert())
        except Exception as error:  # the converter does not document its types
            raise ExportError(
                f"{card['network']} cannot be exported for LiteRT, which lacks an operation of it "
                f"({_find_reason(str(error))}); export it as .jaxprog or SavedModel"
            ) from error


def _without_complex_numbers(module: RestorationNetwork) -> RestorationNetwork:
    """The same network with Fourier transforms as matrix products: LiteRT lacks complex numbers."""
    return module.clone(fourier="matmul") if isinstance(module, networks.LCDNet) else module


def _convolve(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Computes dense layers of images as 1x1 convolutions.

    The converter makes an invalid operation of the product of a matrix and one pixel, a mean.
    """
    layer = context.module
    if not isinstance(layer, nn.Dense) or args[0].ndim != 4:
        return call(*args, **kwargs)
    params = layer.variables["params"]
    x, kernel, bias = nn.dtypes.promote_dtype(
        args[0], params["kernel"], params.get("bias"), dtype=layer.dtype
    )
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        x, kernel[None, None], (1, 1), "VALID", dimension_numbers=dimensions
    )
    return y if bias is None else y + bias[None, None, None]


def _find_reason(text: str) -> str:
    """The operation that stopped the converter, or the beginning of its long output."""
    found = re.search(r"failed to legalize operation '[^']+'|'[\w.]+' op [^\n]+", text)
    return " ".join((found[0] if found else text).split())[:200]


@contextlib.contextmanager
def _hide_standard_error() -> Iterator[None]:
    """Hides what C++ code writes to standard error, which no setting turns off."""
    try:
        kept = os.dup(2)
    except OSError:  # it was closed at the start
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _load(packages: tuple[Any, Any, Any], content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a file as a function of one image."""
    with _hide_standard_error():  # it announces its delegate
        interpreter = packages[2](model_content=content)
        interpreter.allocate_tensors()
        run = interpreter.get_signature_runner()
    return lambda images: np.asarray(run(images=images)["restored"])


def _measure_quantization(
    restore: Callable[[np.ndarray], np.ndarray], network: Network, quantize: str
) -> JsonObject:
    """Compares results on photographs; raises ExportError if they have little in common."""
    card = network.card
    photos = _read_photos(card["sizes"][0], card["channels"])
    psnr = compare_results(restore, network, list(photos.values()))
    lowest = min(psnr)
    if not lowest >= _LOWEST_PSNR:  # NaN fails, too
        raise ExportError(
            f"with {quantize} weights {card['network']} gives other results than in float32 "
            f"({lowest:.1f} dB between them on a photograph), so nothing is written; export it "
            "in float32"
        )
    scores = {name: round(value, 2) for name, value in zip(photos, psnr, strict=True)}
    return {"type": quantize, "psnr": scores}


def _read_photos(size: tuple[int, int], channels: int) -> dict[str, np.ndarray]:
    """Noisy photographs of scikit-image, mirrored or cropped to a size; ``[1, H, W, C]``."""
    from skimage import data

    rng = np.random.default_rng(0)
    photos = {}
    for name in ("astronaut", "coffee"):
        image = getattr(data, name)().astype(np.float32) / 255
        margin = [(0, max(0, side - have)) for side, have in zip(size, image.shape, strict=False)]
        image = np.pad(image, [*margin, (0, 0)], mode="symmetric")[: size[0], : size[1]]
        image += np.float32(_NOISE) * rng.standard_normal(image.shape, np.float32)
        image = image.clip(0, 1)
        if channels == 1:
            image = image.mean(axis=-1, keepdims=True)
        elif channels == 6:  # two equal views
            image = np.concatenate([image, image], axis=-1)
        photos[name] = np.ascontiguousarray(image[None])
    return photos


def _append_card(data: bytes, card: JsonObject) -> bytes:
    """Adds the card as an archive, which depends only on the card, not on the time."""
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as file:
        file.writestr(zipfile.ZipInfo("card.json"), json.dumps(card, indent=2) + "\n")
    return stream.getvalue()
