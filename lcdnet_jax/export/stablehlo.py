"""Networks with their weights as programs, which run without this library.

Two forms. A *program file* is for JAX: :mod:`lcdnet_jax.export.run_exported` runs it, a file of its
own that knows nothing else of this library. It is an uncompressed zip archive of ``card.json``
and of StableHLO programs in the form of ``jax.export``, each with all weights inside.
A *SavedModel* is for TensorFlow.

A program takes any number of images. Most networks are exported once for images of any size:
sides are symbols, multiples of the network's stride, and whoever runs the program pads images to
such multiples as the network itself does. A network whose code needs to know sizes (the Fourier
transforms of LCDNet, the neighbourhoods of N3Net) becomes one program for each size that is asked
for; an image smaller than those is then padded, and as such a network sees the whole image, its
result is that of the padded one.

Whatever is written was run and compared with the network before.
"""

import contextlib
import io
import json
import operator
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from lcdnet_jax import atomic_io, networks
from lcdnet_jax._version import __version__
from lcdnet_jax.export import run_exported

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

# Largest side of images "of any size", a bound on symbols: deformable convolution must know that
# its indices fit 32 bits, and they do up to here with 8 offset groups.
MAX_SIDE = 16_000

# Largest image of a fixed size, pixels: verifying takes a kilobyte and more for each.
MAX_PIXELS = 32_000_000

# Largest difference from the live network, relative to the larger of 1 and its largest value.
_TOLERANCE = {"float32": 1e-5, "float64": 1e-5}
_COARSE_TOLERANCE = 2e-2

Sizes = Sequence[tuple[int, int]]


class ExportError(ValueError):
    """A network cannot be exported as asked; the message names the fix."""


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
    device = _device(platforms)
    apply, card = _prepare(module, variables, sizes, platforms, about)
    arguments = {
        f"{'x'.join(map(str, size)) if size else 'any'}.bin": _argument(card, size)
        for size in card["sizes"] or [None]
    }
    programs = {}
    for name, argument in arguments.items():
        with _without_tracebacks():
            exported = jax.export.export(jax.jit(apply), platforms=tuple(platforms))(argument)
        programs[name] = bytes(exported.serialize())
    card |= {"format": run_exported.FORMAT, "programs": list(programs)}
    restore = run_exported.load(io.BytesIO(_archive(card, programs)), device=device)
    card["verified"] = _verified(restore, module, variables, card, device)
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
        TargetError, OSError: As :func:`lcdnet_jax.atomic_io.check`, before the network is exported,
            and :func:`lcdnet_jax.atomic_io.write`.
    """
    atomic_io.check(path, force=force)
    data = export_program(module, variables, sizes=sizes, platforms=platforms, about=about)
    atomic_io.make_folder(path)
    atomic_io.write(path, data, force=force)
    return _card(data)


def write_saved_model(
    path: str | os.PathLike[str],
    module: nn.Module,
    variables: Mapping[str, Any],
    *,
    sizes: Sizes | None = None,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    about: Mapping[str, Any] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Writes a SavedModel of TensorFlow, all or nothing, verified as a program file is.

    ``tf.saved_model.load(path)(images)`` restores ``[N, H, W, C]`` float32 in [0, 1]. Made for any
    size, it pads and crops by itself; sides must then be at least the network's stride. Made for
    given sizes, it takes these alone. Its signatures are "serving_default", and for further sizes
    "size_HxW". The weights are constants: it cannot be trained.

    Args:
        path: The directory.
        module: This and the next four as for :func:`export_program`.
        variables: The network's.
        sizes: Of images, or None.
        platforms: Where the program is to run, the CPU among them.
        about: More for the card.
        force: Replace the directory where it is an earlier export.

    Returns:
        What ``card.json`` in the directory holds.

    Raises:
        ExportError: As :func:`export_program`.
        TargetError: For a path that may not be replaced, also if something came to it while the
            network was exported.
        OSError: If the disk refuses.
        ImportError: Without TensorFlow.
    """
    path = pathlib.Path(os.path.realpath(path))
    _check_free(path, force)
    atomic_io.check_folder(path)
    if "cpu" not in platforms:
        raise ExportError("a SavedModel is verified on the CPU; add cpu to platforms")
    device = _device(platforms)
    tf, jax2tf = _tensorflow()
    apply, card = _prepare(module, variables, sizes, platforms, about)
    card["format"] = "TensorFlow SavedModel"
    with atomic_io.replacing_directory(path, force=force) as made:
        _save(tf, jax2tf, made, apply, card)
        loaded = tf.saved_model.load(str(made))

        def restore(images: np.ndarray) -> np.ndarray:
            return loaded(tf.constant(images)).numpy()

        card["verified"] = _verified(restore, module, variables, card, device, pads=sizes is None)
        (made / "card.json").write_text(json.dumps(card, indent=2) + "\n")
        _check_free(path, force)  # something may have come meanwhile
    return card


def _prepare(
    module: nn.Module,
    variables: Mapping[str, Any],
    sizes: Sizes | None,
    platforms: Sequence[str],
    about: Mapping[str, Any] | None,
) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """The network as a function of images alone, and what its card says of it."""
    # On the host: weights that lie on several devices would make a program for as many.
    variables = jax.device_get(dict(variables))
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if not np.isfinite(leaf).all():
            raise ExportError(
                f"the weights {jax.tree_util.keystr(path)} hold NaN or infinity; export a "
                "checkpoint from before training went wrong"
            )

    def apply(images: Any) -> Any:
        return module.apply(variables, images)

    networks.check_module(module)
    channels, scale = int(module.channels), module.scale
    sizes = _checked(sizes)
    # At a plain size first, where wrong weights raise an error that says so.
    like = jax.eval_shape(apply, jax.ShapeDtypeStruct((1, 64, 64, channels), np.float32))
    card = {
        "network": type(module).__name__,
        "channels": channels,
        "channels_out": like.shape[3],
        "scale": scale,
        "range": [0.0, 1.0],
        "dtype": jnp.dtype(module.dtype).name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "sizes": None if sizes is None else [list(size) for size in sizes],
        "stride": module.stride if sizes is None else None,
        "max_side": MAX_SIDE if sizes is None else None,
        "platforms": list(platforms),
        "jax": jax.__version__,
        "lcdnet_jax": __version__,
        "about": dict(about or {}),
    }
    if sizes is None:
        _check_any_size(apply, card)
    return apply, card


def _check_any_size(apply: Callable[[Any], Any], card: dict[str, Any]) -> None:
    """Raises ExportError if the network needs sides as numbers, not only as multiples."""
    try:
        jax.eval_shape(apply, _argument(card, None))
    except Exception as error:  # of a type that depends on where the network wants numbers
        raise ExportError(
            f"{card['network']} of stride {card['stride']} cannot be exported for images of any "
            "size, since its code needs to know sizes, as Fourier transforms do; give those you "
            "need, as in sizes=[(256, 256)]"
        ) from error


def _argument(card: dict[str, Any], size: Sequence[int] | None) -> jax.ShapeDtypeStruct:
    """Symbolic images of one size or of any."""
    shape, constraints = _symbols(card, size)
    symbols = jax.export.symbolic_shape(shape, constraints=constraints)
    return jax.ShapeDtypeStruct(symbols, np.float32)


def _symbols(card: dict[str, Any], size: Sequence[int] | None) -> tuple[str, tuple[str, ...]]:
    """Shape of images as ``jax.export`` writes it, and what holds of its symbols."""
    if size is not None:
        return f"b, {size[0]}, {size[1]}, {card['channels']}", ()
    stride = card["stride"]
    constraints = tuple(f"{side} <= {MAX_SIDE // stride}" for side in "hw")
    return f"b, {stride}*h, {stride}*w, {card['channels']}", constraints


def _verified(
    restore: Callable[[np.ndarray], np.ndarray],
    module: nn.Module,
    variables: Mapping[str, Any],
    card: dict[str, Any],
    device: Any,
    *,
    pads: bool = True,
) -> list[dict[str, Any]]:
    """Compares an exported network with the live one, and tells how much they differed.

    ``pads``: ``restore`` takes images smaller than the card's sizes.
    """
    cases: list[tuple[Sequence[int], Sequence[int], tuple[int, ...]]]  # sizes before, after padding
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
    rng = np.random.default_rng(0)
    live, variables = jax.jit(module.apply), jax.device_get(dict(variables))
    found = []
    for size, full, counts in cases:
        images = rng.random((2, *size, card["channels"]), np.float32)
        margin = [(0, 0), *((0, b - a) for a, b in zip(size, full, strict=True)), (0, 0)]
        height, width = (side * card["scale"] for side in size)
        with _explained(full):
            with jax.default_device(device):
                expected = np.asarray(live(variables, np.pad(images, margin, mode="reflect")))
            expected = expected[:, :height, :width]
            for count in counts:
                restored = restore(images[:count])
                case = {"images": count, "size": list(size)}
                found.append(case | _compared(restored, expected[:count], card, case))
    return found


def _compared(
    restored: np.ndarray, expected: np.ndarray, card: dict[str, Any], case: dict[str, Any]
) -> dict[str, float]:
    """By how much the two differ; ExportError if by more than is allowed."""
    relative = _TOLERANCE.get(card["dtype"], _COARSE_TOLERANCE)
    allowed = relative * max(1.0, float(np.abs(expected).max()))
    same = restored.shape == expected.shape
    difference = float(np.abs(restored - expected).max()) if same else np.nan
    if not difference <= allowed:  # nor if it is NaN
        height, width = case["size"]
        raise ExportError(
            f"the exported {card['network']} gives other values than the network, by "
            f"{difference:.2g} with {case['images']} x {height} x {width} pixels, where "
            f"{allowed:.2g} is allowed, so nothing is written; export it for sizes of your own, or "
            "in float32"
        )
    return {"difference": difference, "tolerance": allowed}


@contextlib.contextmanager
def _explained(size: Sequence[int]) -> Iterator[None]:
    """Says which size did not fit into memory."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ExportError(
            f"two images of {size[0]}x{size[1]} pixels do not fit into memory, which verifying "
            "takes; export for smaller sizes"
        ) from error


def _checked(sizes: Sizes | None) -> list[tuple[int, int]] | None:
    """The sizes as given, without repetitions."""
    if sizes is None:
        return None
    try:
        pairs = [(operator.index(height), operator.index(width)) for height, width in sizes]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or min(map(min, pairs)) < 1:
        raise ExportError(
            f"sizes are pairs of height and width in pixels, as in [(256, 256)], got {sizes!r}"
        )
    for height, width in pairs:
        if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
            raise ExportError(
                f"{height}x{width} pixels are too many: a program takes sides of up to {MAX_SIDE} "
                f"and {MAX_PIXELS // 10**6} megapixels; cut images into tiles"
            )
    return list(dict.fromkeys(pairs))


def _device(platforms: Sequence[str]) -> Any:
    """Where this machine can run a program for these platforms, the CPU if possible."""
    unknown = [platform for platform in platforms if platform not in PLATFORMS]
    if unknown or not platforms:
        raise ExportError(
            f"no platform {', '.join(map(repr, unknown)) or 'is given'}; choose of "
            f"{', '.join(PLATFORMS)}"
        )
    if len(set(platforms)) < len(platforms):
        raise ExportError(f"a platform of {', '.join(platforms)} is given twice; name each once")
    for platform in sorted(platforms, key=PLATFORMS.index):
        try:
            return jax.local_devices(backend=platform)[0]
        except RuntimeError:
            continue
    raise ExportError(
        f"a program for {', '.join(platforms)} cannot be verified on this machine; add cpu to "
        "platforms, or export on a machine with such a device"
    )


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keeps paths of this machine out of programs, which so are the same every time."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


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


def _card(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return json.loads(file.read("card.json"))


def _tensorflow() -> tuple[Any, Any]:
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf
    except ImportError as error:
        raise ImportError(
            f"a SavedModel needs TensorFlow, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[export]"'
        ) from error
    return tf, jax2tf


def _save(
    tf: Any,
    jax2tf: Any,
    directory: pathlib.Path,
    apply: Callable[[Any], Any],
    card: dict[str, Any],
) -> None:
    """Writes the network, unverified, as a SavedModel."""
    sizes, stride, scale = card["sizes"], card["stride"], card["scale"]
    shape, constraints = _symbols(card, None) if sizes is None else ("b, ...", ())
    network = jax2tf.convert(
        apply,
        polymorphic_shapes=[f"({shape})"],
        polymorphic_constraints=constraints,
        native_serialization_platforms=tuple(card["platforms"]),
        with_gradient=False,
    )

    def restore(images: Any) -> Any:
        if sizes is not None:
            return network(images)
        height, width = tf.unstack(tf.shape(images)[1:3])
        margin = [[0, 0], [0, -height % stride], [0, -width % stride], [0, 0]]
        restored = network(tf.pad(images, margin, "REFLECT"))
        return restored[:, : height * scale, : width * scale]

    model = tf.Module()
    model.__call__ = tf.function(restore, autograph=False)
    signatures = {}
    for number, (height, width) in enumerate(sizes or [(None, None)]):
        name = f"size_{height}x{width}" if number else "serving_default"
        images = tf.TensorSpec([None, height, width, card["channels"]], tf.float32, "images")
        with _without_tracebacks():
            signatures[name] = model.__call__.get_concrete_function(images)
    tf.saved_model.save(model, str(directory), signatures=signatures)


def _check_free(path: pathlib.Path, force: bool) -> None:
    atomic_io.check_directory(
        path,
        force=force,
        marks=("saved_model.pb", "card.json"),
        others=("assets", "fingerprint.pb", "variables"),
        what="export",
    )


__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "PLATFORMS",
    "ExportError",
    "export_program",
    "write",
    "write_saved_model",
]
