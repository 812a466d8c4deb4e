"""Parameters and multiply-accumulates of the networks, from ``python -m benchmarks.macs``.

The numbers are stored because counting takes minutes.
"""

from collections.abc import Mapping

# Network -> preset ("" for none) -> (parameters, multiply-accumulates per pixel of the input).
COSTS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "buifd": {"": (1_075_040, 1_072_480)},
    "dncnn": {"": (556_032, 554_112)},
    "ikc": {"base": (5_319_761, 48_865_441), "small": (850_737, 5_468_912)},
    "kmsr": {"": (1_185_152, 1_183_104)},
    "lcdnet": {
        "tiny": (3_320_076, 59_729),
        "small": (22_232_428, 322_985),
        "base": (49_486_188, 628_625),
        "large": (194_030_764, 2_431_539),
    },
    "memnet": {"": (194_922, 191_160)},
    "n3net": {"": (705_511, 702_720)},
    "nafnet": {
        "gopro_width32": (17_111_907, 243_470),
        "gopro_width64": (67_888_835, 962_143),
        "reds_width32": (17_111_907, 243_470),
        "reds_width64": (67_888_835, 962_143),
        "sidd_width32": (29_159_715, 244_828),
        "sidd_width64": (115_982_915, 964_911),
    },
    "rcan": {"base": (15_590_049, 15_898_178), "small": (251_601, 364_320)},
    "restormer": {
        "motion_deblurring": (26_126_644, 2_151_344),
        "defocus_single": (26_126_644, 2_151_344),
        "defocus_dual": (26_132_548, 2_157_248),
        "deraining": (26_126_644, 2_151_344),
        "gaussian_gray": (26_109_076, 2_148_752),
        "gaussian_color": (26_111_668, 2_151_344),
        "real_denoising": (26_111_668, 2_151_344),
    },
    "ridnet": {"": (1_497_045, 1_492_098)},
    "rrdb": {"": (16_880_321, 17_317_440)},
    "sadnet": {
        "small": (307_283, 32_428),
        "fast": (1_030_212, 17_011),
        "base": (4_234_723, 306_764),
    },
    "unet_n2n": {"": (987_408, 171_353)},
}
