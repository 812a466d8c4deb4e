"""Differences between the PyTorch names and shapes of a network and its Flax variables."""

import dataclasses
import keyword
import re
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Layout:
    """Differences between the PyTorch checkpoint of a network and its Flax variables.

    Attributes:
        transposed: Pattern of PyTorch modules whose kernels are stored as (in, out, kh, kw).
        dead: Pattern of keys that some official checkpoints hold but never use.
        stacked: Pattern of Flax modules whose leaves hold several blocks along the first axis.
        rename: Function from the Flax path of a module to its PyTorch path, both joined by dots.
        former: As ``rename``, for the names of earlier versions, which can still be read.
    """

    transposed: str = r"(?!)"
    dead: str = r"(?!)"
    stacked: str = r"(?!)"
    rename: Callable[[str], str] = lambda path: path
    former: Callable[[str], str] | None = None


def _list_name(path: str) -> str:
    """Names members of PyTorch lists: body_2 -> body.2, tail_0_2 -> tail.0.2."""
    return re.sub(r"_(\d+)", r".\1", path)


def _sequential_name(path: str) -> str:
    """Names members of a list as in DnCNN: conv, ReLU, n times (conv, BatchNorm, ReLU), conv."""
    stack, layer, number = re.split(r"\.|_", path)
    place = 3 * int(number) - (layer == "conv")
    return f"{stack}.{stack}.{max(place, 0)}"


def _buifd_name(path: str) -> str:
    """Names members of BUIFD's two lists, which are like DnCNN's, and its fusion layers."""
    if path.startswith("fusion_"):
        return path.replace("fusion_", "FinalFusionLayers.fusion_layers.")
    return _sequential_name(path)


def _restormer_name(path: str) -> str:
    """Names the layers that the official code wraps in modules of their own."""
    path = re.sub(r"\bnorm[12]$", r"\g<0>.body", path)
    path = re.sub(r"^(down|up)\d_\d$", r"\g<0>.body.0", path)
    return "patch_embed.proj" if path == "patch_embed" else path


def _attribute_name(path: str) -> str:
    """Makes names that are valid as ``self.NAME``: global -> global_."""
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in path.split("."))


# Networks that are not listed keep their names.
LAYOUTS = {
    "buifd": Layout(rename=_buifd_name, former=lambda path: path),
    "dncnn": Layout(rename=_sequential_name),
    "ikc": Layout(stacked=r"sftmd\.blocks\b"),
    "kmsr": Layout(stacked=r"resblock_layer\b"),
    "lcdnet": Layout(stacked=r"\w+\.blocks\b", rename=_attribute_name),
    "memnet": Layout(rename=_list_name),
    # The official class creates a BatchNorm after each first convolution and never calls it.
    "n3net": Layout(
        dead=r"blocks\.\d\.bn1\..*",
        rename=lambda path: _list_name(path).replace(
            "distance_bn", "n3aggregation.aggregation.nnn.bn"
        ),
    ),
    "nafnet": Layout(stacked=r"((en|de)coders_\d|middle_blks)\b", rename=_list_name),
    # One list holds a group's blocks and the convolution after them.
    "rcan": Layout(
        stacked=r"body_\d+\.blocks\b",
        rename=lambda path: _list_name(path).replace(".blocks.", ".body."),
    ),
    "restormer": Layout(
        stacked=r"((en|de)coder_level\d|latent|refinement)\b", rename=_restormer_name
    ),
    "ridnet": Layout(
        rename=lambda path: re.sub(r"\b(head|c[12])$", r"\1.body.0", _list_name(path))
    ),
    # Upsampling layers of ESRGAN, which the SFM code creates and never calls.
    "rrdb": Layout(
        dead=r"(upconv[1-4]|HRconv|conv_last)\..*", stacked=r"RRDB_trunk\b", rename=_list_name
    ),
    "sadnet": Layout(
        transposed=r"up[1-3]",
        # Until April 2020 the official code created these layers even where it never called them.
        dead=r"(res[2-4]|dres[1-4])\.conv0\..*|offset4\.offset_conv2\..*",
    ),
}

# Batch counters of BatchNorm. load_state_dict works without them.
ALWAYS_DEAD = r".*\.num_batches_tracked"
_LEAF_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "temperature": "temperature",
}


def is_stacked(path: tuple[str, ...], layout: Layout) -> bool:
    """Whether a Flax leaf holds several blocks along its first axis."""
    return re.match(layout.stacked, ".".join(path[1:-1])) is not None


def torch_keys(path: tuple[str, ...], shape: tuple[int, ...], layout: Layout) -> list[str]:
    """Returns the PyTorch keys of a Flax leaf: one, or one for each stacked block."""
    *modules, leaf = path[1:]  # path[0] is the collection
    module, name = ".".join(modules), _LEAF_NAMES.get(leaf, leaf)
    if stack := re.match(layout.stacked, module):
        inside = module[stack.end() :]
        modules = [f"{stack[0]}.{number}{inside}" for number in range(shape[0])]
    else:
        modules = [module]
    return [f"{layout.rename(module)}.{name}" for module in modules]


def torch_axes(
    path: tuple[str, ...], shape: tuple[int, ...], layout: Layout
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the order of a Flax leaf's axes in PyTorch, and its shape there.

    If the leaf has fewer axes than the order, axes of length 1 are added in front.
    """
    *modules, leaf = path[1:]
    if leaf == "kernel":  # (kh, kw, in, out); of dense layers (in, out)
        transposed = re.fullmatch(layout.transposed, layout.rename(".".join(modules)))
        axes: tuple[int, ...] = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
    elif leaf in _LEAF_NAMES:
        axes = tuple(range(len(shape)))
    else:  # factors, (channels,)
        axes = (0, 3, 1, 2)
    padded = (1,) * (len(axes) - len(shape)) + tuple(shape)
    return axes, tuple(padded[axis] for axis in axes)
