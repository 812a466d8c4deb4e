"""Ablation of LCDNet: nine variants, all else equal.

The paper's own ablation was not available to us; these rows are ours. Each of (b) to (e) adds one
part to the row before. Each of (f) to (i) replaces one part of the full network. The task is rain,
which trains in fewer steps than motion blur.

    row      blocks          global branch   MSFM    SCAM   FFT loss   parameters (tiny)
    a        NAFNet's        -               -       -      x          1,294,540
    b        MSSF            -               -       -      x          1,501,484
    c        MSSF            Fourier unit    -       -      x          2,837,388
    d        MSSF            Fourier unit    sk      -      x          3,314,572
    e        MSSF            Fourier unit    sk      sk     x          3,320,076
    f        MSSF            Fourier unit    sk      sff    x          4,217,644
    g        MSSF            Fourier unit    cross   sk     x          3,448,204
    h        MSSF            Fourier unit    sk      sk     -          3,320,076
    i        MSSF            literal chain   sk      sk     x          3,765,132

Command: python train.py --config configs/lcdnet_ablation.py:c --workdir runs/ablation_c
Time and score: notebooks/lcdnet_ablation has a reduced run of all rows.
"""

from ml_collections import ConfigDict

from configs import lcdnet_synthetic_rain

# Fields of the network, and the weight of the Fourier loss.
_NAF = {"block": "naf", "use_msfm": False, "scam_type": "none"}
ROWS: dict[str, tuple[dict[str, object], float]] = {
    "a": (_NAF, 0.1),
    "b": ({"global_branch": "none", "use_msfm": False, "scam_type": "none"}, 0.1),
    "c": ({"use_msfm": False, "scam_type": "none"}, 0.1),
    "d": ({"scam_type": "none"}, 0.1),
    "e": ({}, 0.1),
    "f": ({"scam_type": "sff"}, 0.1),
    "g": ({"msfm_fusion": "cross"}, 0.1),
    "h": ({}, 0.0),
    "i": ({"global_branch": "literal_chain"}, 0.1),
}


def get_config(row: str = "e") -> ConfigDict:
    """Returns one row, for the preset `tiny`."""
    if row not in ROWS:
        raise ValueError(f"no ablation row {row!r}; use one of {', '.join(ROWS)}")
    config = lcdnet_synthetic_rain.get_config("tiny")
    fields, config.fft_weight = ROWS[row]
    config.network.kwargs = ConfigDict({"preset": "tiny", **fields})
    return config
