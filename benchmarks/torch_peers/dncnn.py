"""Peer of DnCNN."""

from torch import Tensor, nn


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
