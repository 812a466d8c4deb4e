"""Peer of SADNet."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_peers.deform_conv import default_deform_form, deform_conv2d
from benchmarks.torch_peers.layers import pad_to_multiple


class SADNet(nn.ModuleDict):
    """Peer of :class:`lcdnet_jax.networks.SADNet`; ``form`` is that of :func:`deform_conv2d`."""

    def __init__(
        self,
        channels: int,
        width: int,
        offset_width: int,
        groups: int,
        dilations: tuple[int, ...],
        rsab_scales: int,
        unshuffle: int,
        form: str | None,
    ) -> None:
        super().__init__()
        self.form, self.deformable, self.unshuffle = form, rsab_scales, unshuffle
        widths = [width * 2**i for i in range(4)]
        for scale, c in enumerate(widths, start=1):
            self[f"res{scale}"] = _ResBlock(channels * unshuffle**2 if scale == 1 else c, c)
            if scale > 4 - rsab_scales:
                self[f"offset{scale}"] = _OffsetBlock(c, offset_width, coarsest=scale == 4)
                self[f"dres{scale}"] = _RSAB(c, offset_width, groups)
            else:
                self[f"dres{scale}"] = _ResBlock(c, c)
            if scale < 4:
                self[f"down{scale}"] = nn.Conv2d(c, 2 * c, 2, stride=2)
                self[f"up{scale}"] = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
                self[f"dconv{scale}_1"] = nn.Conv2d(2 * c, c, 1)
        self["context"] = _Context(widths[3], dilations)
        self["out"] = nn.Conv2d(width, channels * unshuffle**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Restores ``x [N, C, H, W]``."""
        height, width = x.shape[2:]
        form = self.form or default_deform_form(x.device)
        image = pad_to_multiple(x, 8 * self.unshuffle)
        feature, skips = self["res1"](F.pixel_unshuffle(image, self.unshuffle)), []
        for scale in (1, 2, 3):
            skips.append(feature)
            feature = self[f"res{scale + 1}"](_lrelu(self[f"down{scale}"](feature)))
        feature = self["context"](feature)
        offset_feature = None
        for scale in (4, 3, 2, 1):
            if scale < 4:
                feature = torch.cat([self[f"up{scale}"](feature), skips.pop()], 1)
                feature = self[f"dconv{scale}_1"](feature)
            if scale > 4 - self.deformable:
                offset_feature = self[f"offset{scale}"](feature, offset_feature)
                feature = self[f"dres{scale}"](feature, offset_feature, form)
            else:
                feature = self[f"dres{scale}"](feature)
        residual = F.pixel_shuffle(self["out"](feature), self.unshuffle)
        return (image + residual)[:, :, :height, :width]


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
