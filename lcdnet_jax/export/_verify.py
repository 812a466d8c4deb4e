"""Comparison of an exported network with the network itself."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.export
import numpy as np

from lcdnet_jax.export._prepare import ExportError, Network
from lcdnet_jax.messages import is_out_of_memory
from lcdnet_jax.typing import JsonObject

# Largest difference from the live network, relative to the larger of 1 and its largest value.
_TOLERANCE = {"float32": 1e-5, "float64": 1e-5}

_COARSE_TOLERANCE = 2e-2


def verify(
    restore: Callable[[np.ndarray], np.ndarray],
    network: Network,
    *,
    pads: bool = True,
    tolerance: Mapping[str, float] = _TOLERANCE,
    make_photo: Callable[[int, int, int], np.ndarray] | None = None,
) -> list[JsonObject]:
    """Compares an exported network with the network itself.

    Args:
        restore: The exported network, a function of ``[N, H, W, C]`` float32 in [0, 1].
        network: The network. Its card may have a "batch", the only number of images that
            ``restore`` takes.
        pads: Whether ``restore`` pads images that are smaller than the card's sizes.
        tolerance: The largest allowed difference for a type of computation, relative to the larger
            of 1 and the largest value. Other types have a coarse one.
        make_photo: Makes a photograph of a height, a width and a number of channels, for one of the
            images of each case. None: all images are random.

    Returns:
        For each case the number and the size of the images, the largest absolute difference and the
        tolerance.

    Raises:
        ExportError: If a difference exceeds the tolerance, or the images do not fit into memory.
    """
    card = network.card
    cases: list[
        tuple[Sequence[int], Sequence[int], tuple[int, ...]]
    ]  # sizes before and after padding
    if card["sizes"] is not None:
        cases = [(size, size, (1, 2)) for size in card["sizes"]]
        if pads and len(cases) == 1:
            full = card["sizes"][0]
            cases.append(([(side + 1) // 2 for side in full], full, (1,)))
    else:  # a size that needs no padding, and one that does where the stride is not 1
        stride = card["stride"]
        side = stride * -(-16 // stride)
        plain, odd = (side, side + stride), (side + stride + stride // 2, side)
        cases = [(plain, plain, (2,)), (odd, odd, (1,))]  # the network pads by itself
    if batch := card.get("batch"):
        cases = [(size, full, (batch,)) for size, full, _ in cases]
    rng = np.random.default_rng(0)
    apply = jax.jit(network.module.apply)  # weights as arguments, unlike in the export
    found = []
    for size, full, counts in cases:
        images = rng.random((max(counts), *size, card["channels"]), np.float32)
        if make_photo is not None:
            images[-1] = make_photo(size[0], size[1], card["channels"])
        margin = [(0, 0), *((0, b - a) for a, b in zip(size, full, strict=True)), (0, 0)]
        height, width = (side * card["scale"] for side in size)
        with _explain_memory(full):
            with jax.default_device(network.device):
                padded = np.pad(images, margin, mode="reflect")
                expected = np.asarray(apply(network.variables, padded))
            expected = expected[:, :height, :width]
            for count in counts:
                restored = restore(images[:count])
                case = {"images": count, "size": list(size)}
                relative = tolerance.get(card["dtype"], _COARSE_TOLERANCE)
                found.append(case | _compare(restored, expected[:count], card, case, relative))
    return found


def compare_results(
    restore: Callable[[np.ndarray], np.ndarray], network: Network, images: Sequence[np.ndarray]
) -> list[float]:
    """Compares the results of an exported network that is less exact.

    Args:
        restore: The exported network, as for :func:`verify`.
        network: The network.
        images: Each ``[1, H, W, C]`` float32 in [0, 1].

    Returns:
        For each image the PSNR in dB between both results, clipped to [0, 1]. NaN where a result
        is.

    Raises:
        ExportError: If an image does not fit into memory.
    """
    apply = jax.jit(network.module.apply)
    found = []
    for image in images:
        with _explain_memory(image.shape[1:3]):
            with jax.default_device(network.device):
                expected = np.asarray(apply(network.variables, image), np.float64)
            restored = restore(image)
        error = np.mean(np.square(np.clip(restored, 0, 1) - np.clip(expected, 0, 1)))
        found.append(float(-10 * np.log10(np.maximum(error, 1e-10))))
    return found


def _compare(
    restored: np.ndarray,
    expected: np.ndarray,
    card: JsonObject,
    case: JsonObject,
    relative: float,
) -> dict[str, float]:
    """Computes the largest difference; raises ExportError if it exceeds the tolerance."""
    allowed = relative * max(1.0, float(np.abs(expected).max()))
    same = restored.shape == expected.shape
    difference = float(np.abs(restored - expected).max()) if same else np.nan
    if not difference <= allowed:  # NaN fails, too
        height, width = case["size"]
        raise ExportError(
            f"the exported {card['network']} gives other values than the network, by "
            f"{difference:.2g} with {case['images']} x {height} x {width} pixels, where "
            f"{allowed:.2g} is allowed, so nothing is written; export it for sizes of your own, or "
            "in float32"
        )
    return {"difference": difference, "tolerance": allowed}


@contextlib.contextmanager
def _explain_memory(size: Sequence[int]) -> Iterator[None]:
    """Raises ExportError with the size that did not fit into memory."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ExportError(
            f"images of {size[0]}x{size[1]} pixels do not fit into memory for verification; export "
            "for smaller sizes"
        ) from error
