"""Folder layouts in which data sets are published, one file per family.

``LAYOUTS`` has the function that reads each of them. ``fmd.py`` and ``dnd.py`` are not in it: FMD
also takes averaging levels, and DND has no ground truth.
"""

import functools
from collections.abc import Callable

from input_pipeline.examples import Example
from input_pipeline.layouts.div2k import read_div2k
from input_pipeline.layouts.real_noise import (
    read_nam,
    read_polyu,
    read_renoir,
    read_sidd,
    read_sidd_validation,
)
from input_pipeline.layouts.realsr import read_realsr
from input_pipeline.layouts.restoration_pairs import (
    read_dpdd,
    read_gopro,
    read_hide,
    read_rain13k,
    read_realblur,
    read_reds,
)

# By name of the data set. A function takes the folder and, if the data set has splits, the split.
# It returns the examples, sorted by name.
LAYOUTS: dict[str, Callable[..., tuple[Example, ...]]] = {
    "sidd": read_sidd,
    "renoir": read_renoir,
    "polyu": read_polyu,
    "nam": read_nam,
    "sidd_validation": read_sidd_validation,
    "gopro": read_gopro,
    "gopro_gamma": functools.partial(read_gopro, blur="blur_gamma"),
    "reds": read_reds,
    "reds_jpeg": functools.partial(read_reds, blur="blur_jpeg"),
    "hide": read_hide,
    "realblur_j": functools.partial(read_realblur, version="J"),
    "realblur_r": functools.partial(read_realblur, version="R"),
    "dpdd": read_dpdd,
    "dpdd_dual": functools.partial(read_dpdd, dual=True),
    "rain13k": read_rain13k,
    "realsr": read_realsr,
    "div2k": read_div2k,
}
