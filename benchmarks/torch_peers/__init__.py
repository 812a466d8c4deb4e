"""Our networks in PyTorch: the same math with the same weights, as a fair peer in speed.

    peer = network("sadnet", module, variables).to(memory_format=torch.channels_last).eval()
    with torch.inference_mode():
        restored = peer(images)                      # [N, C, H, W] in [0, 1]

Written as one writes PyTorch: eager, whole-tensor operations, for either memory format. For
bfloat16 run the module, whose parameters are float32, under ``torch.autocast``: as in the Flax
module, positions, transforms, normalization and softmax then stay in float32, and what passes
between layers is bfloat16.

Names of parameters are those of :func:`lcdnet_jax.convert.to_torch`. Networks are dictionaries of
modules, because their layers are numbered. As ``torch_steps`` and ``torch_loader``, this file is
imported only where a peer is asked for.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen
import numpy as np

from lcdnet_jax import convert
from lcdnet_jax.ops import TWO_VIEW_CHANNELS

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"a PyTorch peer needs PyTorch, which cannot be imported ({error}); run\n"
        '  pip install "lcdnet-jax[torch]"'
    ) from error

import torch.nn.functional as F
from torch import Tensor, nn

NETWORKS = ("sadnet", "lcdnet", "dncnn", "rcan")

# Fields that the peers follow: those of the presets, and what else changes sizes only.
_FIELDS = {
    "sadnet": ("channels", "width", "offset_width", "groups", "dilations"),
    "lcdnet": (
        "channels", "width", "enc_blocks", "mid_blocks", "dec_blocks", "msfm_kernels",
        "msfm_groups", "norm_eps",
    ),
    "dncnn": ("channels", "depth", "features"),
    "rcan": ("channels", "scale", "groups", "blocks", "features"),
}  # fmt: skip
# Fields that change no result of given variables.
_FREE = {"name", "parent", "dtype", "remat", "low_memory", "zero_init_offsets"}


def network(
    name: str,
    module: flax.linen.Module,
    variables: Mapping[str, Any],
    *,
    deform_form: str | None = None,
) -> nn.Module:
    """The peer of a Flax network, with its weights, float32, on the CPU, in training mode.

    It maps ``[N, C, H, W]`` as the Flax module maps ``[N, H, W, C]``, any H and W; RCAN's enlarges
    as that does. LCDNet's takes ``all_scales=True``, too. After a training step DnCNN's running
    variances differ: PyTorch keeps n / (n - 1) times the variance of a batch of n pixels.

    Args:
        name: One of :data:`NETWORKS`.
        module: The Flax network, of any preset.
        variables: Its variables.
        deform_form: SADNet's form of :func:`deform_conv2d`, later its attribute ``form``; None
            for :func:`default_deform_form`.

    Raises:
        ValueError: For a network without a peer, or fields that the peer does not follow.
    """
    if name not in NETWORKS:
        raise ValueError(f"no PyTorch peer of {name!r}; there are those of {', '.join(NETWORKS)}")
    fields = {field: getattr(module, field) for field in _FIELDS[name]}
    others = {
        field: getattr(module, field)
        for field, default in type(module).__dataclass_fields__.items()
        if field not in {*fields, *_FREE} and getattr(module, field) != default.default
    }
    if others:
        raise ValueError(
            f"the PyTorch peer of {name} does not follow {others}; leave these fields at their "
            "defaults, or measure without a peer"
        )
    peer: nn.Module
    if name == "sadnet":
        peer = SADNet(**fields, form=deform_form)
    else:
        peer = {"lcdnet": LCDNet, "dncnn": DnCNN, "rcan": RCAN}[name](**fields)
    weights = convert.to_torch(name, variables, **fields)
    peer.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return peer


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    form: str,
) -> Tensor:
    """Modulated deformable convolution, 3x3, zero-padded by 1, stride 1.

    Samples are taken in float32 (float64 for float64) whatever ``x`` is.

    Args:
        x: ``[N, C, H, W]``.
        offset: ``[N, G * 9 * 2, H, W]``, by group, tap and (dy, dx), float32 or float64.
        mask: ``[N, G * 9, H, W]``, of ``offset``'s type, or None for 1.
        weight: ``[O, C, 3, 3]``.
        bias: ``[O]`` or None.
        form: "torchvision", its compiled operation, which knows no bfloat16 and runs in float32
            as a whole; or "grid_sample", PyTorch's bilinear sampling and a matrix product in
            ``x``'s type.

    Returns:
        ``[N, O, H, W]`` in ``x``'s type.

    Raises:
        ImportError: For "torchvision" where it cannot be imported.
        ValueError: For another form.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    if form == "torchvision":
        operation = _torchvision_operation()
        with torch.autocast(x.device.type, enabled=False):
            bias = None if bias is None else bias.to(exact)
            y = operation(x.to(exact), offset, weight.to(exact), bias, padding=1, mask=mask)
        return y.to(x.dtype)
    if form != "grid_sample":
        raise ValueError(f"form must be 'torchvision' or 'grid_sample', got {form!r}")

    n, channels, height, width = x.shape
    groups = offset.shape[1] // 18
    # Positions in grid_sample's units, in which the image reaches from -1 to 1.
    tap, row, column = (
        torch.arange(size, device=x.device, dtype=offset.dtype) for size in (3, height, width)
    )
    at_y = ((2 * (row + tap[:, None]) - 1) / height - 1).view(1, 1, 3, 1, height, 1)
    at_x = ((2 * (column + tap[:, None]) - 1) / width - 1).view(1, 1, 1, 3, 1, width)
    dy, dx = offset.view(n, groups, 3, 3, 2, height, width).unbind(4)
    grid = torch.stack([at_x + dx * (2 / width), at_y + dy * (2 / height)], dim=-1)
    samples = F.grid_sample(
        x.to(exact).reshape(n * groups, channels // groups, height, width),
        grid.view(n * groups, 9 * height, width, 2),
        align_corners=False,
    )
    samples = samples.view(n, groups, channels // groups, 9, height, width)
    if mask is not None:
        samples = samples * mask.view(n, groups, 1, 9, height, width)
    columns = samples.reshape(n, channels * 9, height * width).to(x.dtype)
    # Not matmul, which would turn the columns to fold the batch into them.
    matrices = weight.to(x.dtype).reshape(1, -1, 9 * channels).expand(n, -1, -1)
    if bias is None:
        y = torch.bmm(matrices, columns)
    else:
        y = torch.baddbmm(bias.to(x.dtype).view(1, -1, 1), matrices, columns)
    return y.view(n, -1, height, width)


def default_deform_form(device: torch.device) -> str:
    """What is fastest: "torchvision" on CUDA where it can be imported, else "grid_sample"."""
    if device.type != "cuda":
        return "grid_sample"
    try:
        _torchvision_operation()
    except ImportError:
        return "grid_sample"
    return "torchvision"


@functools.cache
def _torchvision_operation() -> Any:
    try:
        from torchvision.ops import deform_conv2d as operation
    except (ImportError, RuntimeError) as error:  # RuntimeError: made for another PyTorch
        raise ImportError(
            f"torchvision cannot be imported ({error}); install the version that belongs to "
            f"PyTorch {torch.__version__}, or choose the form 'grid_sample'"
        ) from error
    return operation


def deform_inputs_from_jax(
    x: Any, offset: Any, mask: Any | None, kernel: Any, bias: Any | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
    """Inputs of :func:`lcdnet_jax.ops.deform_conv2d` as those of :func:`deform_conv2d`.

    Args:
        x: ``[N, H, W, C]``.
        offset: ``[N, H, W, G, 9, 2]``.
        mask: ``[N, H, W, G, 9]`` or None.
        kernel: ``[3, 3, C, O]``.
        bias: ``[O]`` or None.

    Returns:
        Copies on the CPU, float64 where they were, otherwise float32.
    """
    n, height, width = offset.shape[:3]

    def tensor(array: Any, axes: tuple[int, ...]) -> Tensor:
        exact = np.float64 if array.dtype == np.float64 else np.float32
        return torch.from_numpy(np.array(np.asarray(array).transpose(axes), exact, order="C"))

    return (
        tensor(x, (0, 3, 1, 2)),
        tensor(offset, (0, 3, 4, 5, 1, 2)).view(n, -1, height, width),
        None if mask is None else tensor(mask, (0, 3, 4, 1, 2)).view(n, -1, height, width),
        tensor(kernel, (3, 2, 0, 1)),
        None if bias is None else tensor(bias, (0,)),
    )


# SADNet


class SADNet(nn.ModuleDict):
    """Peer of :class:`lcdnet_jax.networks.SADNet`; ``form`` is that of :func:`deform_conv2d`."""

    def __init__(
        self,
        channels: int,
        width: int,
        offset_width: int,
        groups: int,
        dilations: tuple[int, ...],
        form: str | None,
    ) -> None:
        super().__init__()
        self.form = form
        widths = [width * 2**i for i in range(4)]
        for scale, c in enumerate(widths, start=1):
            self[f"res{scale}"] = _ResBlock(channels if scale == 1 else c, c)
            self[f"offset{scale}"] = _OffsetBlock(c, offset_width, coarsest=scale == 4)
            self[f"dres{scale}"] = _RSAB(c, offset_width, groups)
            if scale < 4:
                self[f"down{scale}"] = nn.Conv2d(c, 2 * c, 2, stride=2)
                self[f"up{scale}"] = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
                self[f"dconv{scale}_1"] = nn.Conv2d(2 * c, c, 1)
        self["context"] = _Context(widths[3], dilations)
        self["out"] = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Restores ``x [N, C, H, W]``."""
        height, width = x.shape[2:]
        form = self.form or default_deform_form(x.device)
        image = _pad_to_multiple(x, 8)
        feature, skips = self["res1"](image), []
        for scale in (1, 2, 3):
            skips.append(feature)
            feature = self[f"res{scale + 1}"](_lrelu(self[f"down{scale}"](feature)))
        feature = self["context"](feature)
        offset_feature = None
        for scale in (4, 3, 2, 1):
            if scale < 4:
                feature = torch.cat([self[f"up{scale}"](feature), skips.pop()], 1)
                feature = self[f"dconv{scale}_1"](feature)
            offset_feature = self[f"offset{scale}"](feature, offset_feature)
            feature = self[f"dres{scale}"](feature, offset_feature, form)
        return (image + self["out"](feature))[:, :, :height, :width]


class _ResBlock(nn.Module):
    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        if channels != features:
            self.conv0 = nn.Conv2d(channels, features, 1)
        self.widens = channels != features
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x) if self.widens else x
        return x + self.conv2(_lrelu(self.conv1(x)))


class _Context(nn.Module):
    def __init__(self, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        c = channels // 4
        self.conv0 = nn.Conv2d(channels, c, 1)
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Conv2d(c, c, 3, padding=rate, dilation=rate) for rate in dilations
        )
        self.fusion = nn.Conv2d(4 * c, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.conv0(x)
        branches = (self.conv1, self.conv2, self.conv3, self.conv4)
        return x + self.fusion(torch.cat([_lrelu(conv(reduced)) for conv in branches], 1))


class _OffsetBlock(nn.Module):
    def __init__(self, channels: int, features: int, *, coarsest: bool) -> None:
        super().__init__()
        self.offset_conv1 = nn.Conv2d(channels, features, 3, padding=1)
        if not coarsest:
            self.offset_conv2 = nn.Conv2d(2 * features, features, 3, padding=1)
        self.offset_conv3 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        f = _lrelu(self.offset_conv1(x))
        if coarser is not None:
            finer = F.interpolate(2 * coarser, scale_factor=2, mode="bilinear")
            f = _lrelu(self.offset_conv2(torch.cat([f, finer], 1)))
        return _lrelu(self.offset_conv3(f))


class _RSAB(nn.Module):
    def __init__(self, channels: int, offset_width: int, groups: int) -> None:
        super().__init__()
        self.dcnpack = _DeformConv(channels, offset_width, groups)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, offset_feature: Tensor, form: str) -> Tensor:
        return x + self.conv1(_lrelu(self.dcnpack(x, offset_feature, form)))


class _DeformConv(nn.Module):
    def __init__(self, channels: int, offset_width: int, groups: int) -> None:
        super().__init__()
        self.offsets = 2 * 9 * groups
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(channels))
        self.conv_offset_mask = nn.Conv2d(offset_width, 27 * groups, 3, padding=1)

    def forward(self, x: Tensor, offset_feature: Tensor, form: str) -> Tensor:
        predicted = self.conv_offset_mask(offset_feature)
        predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
        offset, logit = predicted[:, : self.offsets], predicted[:, self.offsets :]
        return deform_conv2d(x, offset, logit.sigmoid(), self.weight, self.bias, form=form)


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirrored at the bottom and right, as :func:`lcdnet_jax.ops.pad_to_multiple`."""
    below, right = (-size % multiple for size in x.shape[2:])
    return _mirror(x, (0, right, 0, below)) if below or right else x


def _mirror(x: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    """``F.pad`` by reflection, and further than the image is large."""
    height, width = x.shape[2:]
    if max(sides[:2]) < width and max(sides[2:]) < height:
        return F.pad(x, sides, mode="reflect")
    for axis, before, after in ((3, *sides[:2]), (2, *sides[2:])):
        last = x.shape[axis] - 1
        place = torch.arange(-before, last + 1 + after, device=x.device) % max(2 * last, 1)
        x = x.index_select(axis, torch.minimum(place, (2 * last - place).abs()))
    return x


# LCDNet


class LCDNet(nn.ModuleDict):
    """Peer of :class:`lcdnet_jax.networks.LCDNet` with the choices of its presets."""

    def __init__(
        self,
        channels: int,
        width: int,
        enc_blocks: tuple[int, ...],
        mid_blocks: int,
        dec_blocks: tuple[int, ...],
        msfm_kernels: tuple[int, ...],
        msfm_groups: int,
        norm_eps: float,
    ) -> None:
        super().__init__()

        def stage(channels: int, blocks: int) -> nn.Module:
            return _HSFSBlock(channels, blocks, msfm_kernels, msfm_groups, norm_eps)

        self["stem"] = nn.Conv2d(channels, width, 3, padding=1)
        for scale in range(4):
            c = width * 2**scale
            if scale:
                self[f"sfe{scale}"] = _SFE(channels, c)
                self[f"merge{scale}"] = nn.Conv2d(2 * c, c, 1)
            self[f"enc{scale}"] = stage(c, enc_blocks[scale])
            self[f"down{scale}"] = nn.Conv2d(c, 2 * c, 2, stride=2)
            self[f"up{scale}"] = _Up(2 * c)
            self[f"scam{scale}"] = _SCAM(c)
            self[f"skip{scale}"] = nn.Conv2d(2 * c, c, 1)
            self[f"dec{scale}"] = stage(c, dec_blocks[scale])
            self[f"head{scale}"] = nn.Conv2d(c, min(channels, 3), 3, padding=1)
        self["mid"] = stage(16 * width, mid_blocks)

    def forward(self, x: Tensor, all_scales: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Restores ``x [N, C, H, W]``; ``all_scales`` adds the images at 1/2, 1/4 and 1/8."""
        height, width = x.shape[2:]
        image = _pad_to_multiple(x, 16)
        images = [image[:, :, :: 2**scale, :: 2**scale] for scale in range(4)]
        feature, skips = self["stem"](image), []
        for scale in range(4):
            if scale:
                shallow = self[f"sfe{scale}"](images[scale])
                feature = self[f"merge{scale}"](torch.cat([shallow, feature], 1))
            feature = self[f"enc{scale}"](feature)
            skips.append(feature)
            feature = self[f"down{scale}"](feature)
        feature = self["mid"](feature)
        outputs = []
        for scale in (3, 2, 1, 0):
            feature = self[f"up{scale}"](feature)
            gated = self[f"scam{scale}"](skips.pop(), feature)
            feature = self[f"skip{scale}"](torch.cat([feature, gated], 1))
            feature = self[f"dec{scale}"](feature)
            if scale == 0 or all_scales:
                base = images[scale]
                if base.shape[1] == TWO_VIEW_CHANNELS:  # two views
                    base = (base[:, :3] + base[:, 3:]) / 2
                outputs.append(base + self[f"head{scale}"](feature))
        finest = outputs.pop()[:, :, :height, :width]
        return (finest, *reversed(outputs)) if all_scales else finest


class _HSFSBlock(nn.Module):
    def __init__(
        self, channels: int, blocks: int, kernels: tuple[int, ...], groups: int, eps: float
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_MSSFBlock(channels, eps) for _ in range(blocks)))
        self.msfm = _MSFM(channels, kernels, groups, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x + self.msfm(x)


class _MSSFBlock(nn.Module):
    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        c = channels
        self.norm1 = _LayerNorm(c, eps)
        self.local_expand = nn.Conv2d(c, 2 * c, 1)
        self.local_dw = _depthwise(2 * c, 2 * c, 3)
        self.local_sca = nn.Conv2d(c, c, 1)
        self.local_out = nn.Conv2d(c, c, 1)
        self.global_ = _FourierUnit(c, eps)
        self.norm2 = _LayerNorm(c, eps)
        self.expand = nn.Conv2d(c, 2 * c, 1, bias=False)
        self.first_3 = _depthwise(2 * c, 2 * c, 3, bias=False)
        self.first_5 = _depthwise(2 * c, 2 * c, 5, bias=False)
        self.second_3 = _depthwise(c, 2 * c, 3, bias=False)
        self.second_5 = _depthwise(c, 2 * c, 5, bias=False)
        self.reduce = nn.Conv2d(2 * c, c, 1, bias=False)
        self.beta_local, self.beta_global, self.gamma = (
            nn.Parameter(torch.empty(1, c, 1, 1)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        local = _gate(self.local_dw(self.local_expand(normed)))
        local = self.local_out(local * self.local_sca(_mean(local)))
        x = _add_scaled(x, local, self.beta_local)
        x = _add_scaled(x, self.global_(normed), self.beta_global)
        y = self.expand(self.norm2(x))
        small1, small2 = _gate(self.first_3(y)).chunk(2, 1)
        large1, large2 = _gate(self.first_5(y)).chunk(2, 1)
        small = _gate(self.second_3(torch.cat([small1, large1], 1)))
        large = _gate(self.second_5(torch.cat([small2, large2], 1)))
        return _add_scaled(x, self.reduce(torch.cat([small, large], 1)), self.gamma)


class _FourierUnit(nn.Module):
    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        c = channels
        self.spatial_expand = nn.Conv2d(c, 2 * c, 1)
        self.spatial_dw = _depthwise(2 * c, 2 * c, 3)
        self.spectral = nn.Conv2d(2 * c, 4 * c, 1)
        self.norm = _LayerNorm(4 * c, eps)
        self.sca = nn.Conv2d(c, c, 1)
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = _gate(self.spatial_dw(self.spatial_expand(x)))
        exact = torch.promote_types(y.dtype, torch.float32)
        z = torch.fft.rfft2(y.to(exact), norm="ortho")
        z = self.spectral(torch.cat([z.real, z.imag], 1).to(y.dtype))
        real, imaginary = _gate(self.norm(z)).to(exact).chunk(2, 1)
        z = torch.complex(real, imaginary)
        y = torch.fft.irfft2(z, x.shape[2:], norm="ortho").to(y.dtype)
        return self.out(y * self.sca(_mean(y)))


class _MSFM(nn.ModuleDict):
    def __init__(self, channels: int, kernels: tuple[int, ...], groups: int, eps: float) -> None:
        super().__init__()
        self.kernels, self.groups = kernels, groups
        self["in_"] = nn.Conv2d(channels, channels, 1)
        c, squeezed = channels // 2, max(channels // 4, 32)
        for k in kernels:
            name = f"{k}x{k}"
            self[f"filter_{name}"] = nn.Conv2d(c, groups * k**2, 1, bias=False)
            self[f"filter_norm_{name}"] = _LayerNorm(groups * k**2, eps)
            self[f"squeeze_{name}"] = nn.Conv2d(c, squeezed, 1)
            self[f"{name}_0"] = nn.Conv2d(squeezed, c, 1)
            self[f"{name}_1"] = nn.Conv2d(squeezed, c, 1)
            self[f"out_{name}"] = nn.Conv2d(c, c, 1)
        self["out"] = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        halves = self["in_"](x).chunk(2, 1)
        branches = [self._branch(y, k) for y, k in zip(halves, self.kernels, strict=True)]
        return self["out"](torch.cat(branches, 1))

    def _branch(self, y: Tensor, size: int) -> Tensor:
        name = f"{size}x{size}"
        mean = _mean(y)
        logits = self[f"filter_norm_{name}"](self[f"filter_{name}"](mean)).float()
        filters = logits.view(y.shape[0], self.groups, size**2).softmax(-1)
        low = _low_pass(y, filters.to(y.dtype))
        squeezed = self[f"squeeze_{name}"](mean)
        of_high, of_low = _pair_of_weights(self[f"{name}_0"], self[f"{name}_1"], squeezed)
        return self[f"out_{name}"](torch.addcmul(of_high * (y - low), of_low, low))


def _low_pass(y: Tensor, filters: Tensor) -> Tensor:
    """``y [N, C, H, W]`` by ``filters [N, G, taps]``, each for a group of consecutive channels."""
    n, channels = y.shape[:2]
    groups, taps = filters.shape[1:]
    size = round(taps**0.5)
    weight = filters.repeat_interleave(channels // groups, 1).view(-1, 1, size, size)
    reach = size // 2
    padded = _mirror(y, (reach, reach, reach, reach))
    padded = padded.reshape(1, n * channels, *padded.shape[2:])
    return F.conv2d(padded, weight, groups=n * channels).view(y.shape)


class _SCAM(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // 8, 4)
        self.squeeze = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.gate_0 = nn.Conv2d(squeezed // 2, channels, 1, bias=False)
        self.gate_1 = nn.Conv2d(squeezed // 2, channels, 1, bias=False)

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        squeezed = _gate(self.squeeze(_mean(encoder + decoder)))
        of_encoder, of_decoder = _pair_of_weights(self.gate_0, self.gate_1, squeezed)
        return torch.addcmul(of_encoder * encoder, of_decoder, decoder)


class _SFE(nn.Sequential):
    def __init__(self, channels: int, c: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, c // 4, 3, padding=1)
        self.conv2 = nn.Conv2d(c // 4, c // 2, 1)
        self.conv3 = nn.Conv2d(c // 2, c // 2, 3, padding=1)
        self.conv4 = nn.Conv2d(c // 2, c, 1)
        self.norm = nn.GroupNorm(c, c)

    def forward(self, image: Tensor) -> Tensor:
        y = image
        for conv in (self.conv1, self.conv2, self.conv3):
            y = F.gelu(conv(y))
        y = self.conv4(y)
        return self.norm(y).to(y.dtype)


class _Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class _LayerNorm(nn.LayerNorm):
    """Over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return y.permute(0, 3, 1, 2).to(x.dtype)


def _depthwise(channels: int, features: int, size: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, features, size, padding=size // 2, groups=channels, bias=bias)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _gate(x: Tensor) -> Tensor:
    one, other = x.chunk(2, 1)
    return one * other


def _add_scaled(x: Tensor, branch: Tensor, factors: Tensor) -> Tensor:
    return torch.addcmul(x, branch, factors.to(branch.dtype))


def _pair_of_weights(one: nn.Module, other: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """Two weights for each channel that add up to 1."""
    logits = torch.stack([one(z), other(z)])
    weights = logits.softmax(0).to(logits.dtype)
    return weights[0], weights[1]


# DnCNN


class DnCNN(nn.Module):
    """Peer of :class:`lcdnet_jax.networks.DnCNN`."""

    def __init__(self, channels: int, depth: int, features: int) -> None:
        super().__init__()

        def conv(c_in: int, c_out: int) -> nn.Conv2d:
            return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)

        layers: list[nn.Module] = [conv(channels, features), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv(features, features), nn.BatchNorm2d(features), nn.ReLU(inplace=True)]
        self.dncnn = nn.ModuleDict({"dncnn": nn.Sequential(*layers, conv(features, channels))})

    def forward(self, x: Tensor) -> Tensor:
        """Restores ``x [N, C, H, W]``."""
        return x - self.dncnn["dncnn"](x)


# RCAN


class RCAN(nn.Module):
    """Peer of :class:`lcdnet_jax.networks.RCAN`."""

    def __init__(self, channels: int, scale: int, groups: int, blocks: int, features: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(channels, features, 3, padding=1))
        body = [_Group(features, blocks) for _ in range(groups)]
        self.body = nn.Sequential(*body, nn.Conv2d(features, features, 3, padding=1))
        shuffles: list[nn.Module] = []
        for factor in {2: (2,), 3: (3,), 4: (2, 2)}[scale]:
            shuffles.append(nn.Conv2d(features, factor**2 * features, 3, padding=1))
            shuffles.append(nn.PixelShuffle(factor))
        last = nn.Conv2d(features, channels, 3, padding=1)
        self.tail = nn.Sequential(nn.Sequential(*shuffles), last)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarges ``x [N, C, H, W]``."""
        y = self.head(x)
        return self.tail(y + self.body(y))


class _Group(nn.Module):
    def __init__(self, features: int, blocks: int) -> None:
        super().__init__()
        body = [_AttentionBlock(features) for _ in range(blocks)]
        self.body = nn.Sequential(*body, nn.Conv2d(features, features, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _AttentionBlock(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 3, padding=1),
            _ChannelAttention(features),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _ChannelAttention(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(features, features // 16, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features // 16, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_du(_mean(x))
