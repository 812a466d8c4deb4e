"""Peer of LCDNet."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_peers.layers import pad_by_reflection, pad_to_multiple, spatial_mean
from lcdnet_jax.ops import TWO_VIEW_CHANNELS


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
        image = pad_to_multiple(x, 16)
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
        local = self.local_out(local * self.local_sca(spatial_mean(local)))
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
        return self.out(y * self.sca(spatial_mean(y)))


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
        mean = spatial_mean(y)
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
    padded = pad_by_reflection(y, (reach, reach, reach, reach))
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
        squeezed = _gate(self.squeeze(spatial_mean(encoder + decoder)))
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
