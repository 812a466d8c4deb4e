"""Presets of older versions, for stored configurations and cards that name a preset.

Such files hold ``"preset": "base"`` in a network's fields. They mean the fields below, even if the
presets of the network's class have changed. **Nothing here ever changes**, and nothing is added:
newer files hold every field of the network and no preset.
"""

from collections.abc import Mapping

from lcdnet_jax.typing import Fields

FROZEN_PRESETS: Mapping[str, Mapping[str, Fields]] = {
    "ikc": {
        "base": {"features": 64, "blocks": 16, "iterations": 7},
        "small": {"features": 32, "blocks": 4, "iterations": 4},
    },
    "lcdnet": {
        "tiny": {"width": 16, "enc_blocks": (1, 1, 1, 1)},
        "small": {"width": 32, "enc_blocks": (1, 1, 1, 8)},
        "base": {"width": 32, "enc_blocks": (1, 1, 1, 28)},
        "large": {"width": 64, "enc_blocks": (1, 1, 1, 28)},
    },
    "rcan": {
        "base": {"groups": 10, "blocks": 20, "features": 64},
        "small": {"groups": 2, "blocks": 4, "features": 32},
    },
    "sadnet": {
        "base": {"width": 32, "offset_width": 32, "groups": 8},
        "small": {"width": 8, "offset_width": 16, "groups": 2},
    },
}
