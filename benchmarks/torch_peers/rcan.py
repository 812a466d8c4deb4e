"""Peer of RCAN."""

from torch import Tensor, nn

from benchmarks.torch_peers.layers import spatial_mean


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
        return x * self.conv_du(spatial_mean(x))
