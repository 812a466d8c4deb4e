"""Ablation of SADNet: the six variants of table 1 of the paper.

Source: Chang et al., ECCV 2020, table 1 (Kodak24, color, sigma 50), recipe of
sadnet_color_awgn.py. The code of the ablation was not released. Here, without `rsab` the decoder
has residual blocks instead; without `transfer` its offset blocks use their own scale only.

    row            RSAB  transfer  context   the paper's PSNR   parameters
    none            -       -         -           29.05          3,524,323
    rsab            x       -         -           29.55          3,949,379
    context         -       -         x           29.12          3,754,275
    rsab_context    x       -         x           29.60          4,179,331
    rsab_transfer   x       x         -           29.59          4,004,771
    full            x       x         x           29.64          4,234,723

Command: python train.py --config configs/sadnet_ablation.py:rsab --workdir runs/ablation_rsab
Time and score: not yet run at this length; notebooks/sadnet_ablation has a reduced run.
"""

from ml_collections import ConfigDict

from configs import sadnet_color_awgn

# use_rsab, use_offset_transfer, use_context
ROWS = {
    "none": (False, False, False),
    "rsab": (True, False, False),
    "context": (False, False, True),
    "rsab_context": (True, False, True),
    "rsab_transfer": (True, True, False),
    "full": (True, True, True),
}


def get_config(row: str = "full") -> ConfigDict:
    """Returns one row of the table."""
    if row not in ROWS:
        raise ValueError(f"no ablation row {row!r}; use one of {', '.join(ROWS)}")
    config = sadnet_color_awgn.get_config("50")
    switches = ("use_rsab", "use_offset_transfer", "use_context")
    config.network.kwargs.update(dict(zip(switches, ROWS[row], strict=True)))
    return config
