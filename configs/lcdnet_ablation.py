"""Ablation of LCDNet: variants and two NAFNets, all else equal.

The paper's own ablation was not available to us; these rows are ours. Each of (b) to (e) adds one
part to the row before. Each of (f) to (l) changes one part of the full network. (m) and (n) are
NAFNets with the multiply-accumulates and with the parameters of (e). The task is rain, which trains
in fewer steps than motion blur.

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
    j        MSSF            Fourier unit    sk    sk_norm  x          3,351,020
    k        MSSF            Fourier unit    sk     pixel   x          3,358,332
    l        MSSF, 8 at 1/8  -               sk      sk     x          3,050,412
    m        NAFNet, 28 blocks at 1/8                       x          4,347,827
    n        NAFNet, 20 blocks at 1/8                       x          3,396,531

Command: python train.py --config configs/lcdnet_ablation.py:c --workdir runs/ablation_c
Time and score: notebooks/lcdnet_ablation has a reduced run of (a) to (i); the others were not run.
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
    "j": ({"scam_type": "sk_norm"}, 0.1),
    "k": ({"scam_type": "pixel"}, 0.1),
    "l": ({"global_branch": "none", "enc_blocks": (1, 1, 1, 8)}, 0.1),
}
# Blocks of NAFNet.
NAFNETS = {"m": (1, 1, 1, 28), "n": (1, 1, 1, 20)}


def get_config(row: str = "e") -> ConfigDict:
    """Returns one row, for the width of the preset `tiny`."""
    if row not in {**ROWS, **NAFNETS}:
        raise ValueError(f"no ablation row {row!r}; use one of {', '.join([*ROWS, *NAFNETS])}")
    config = lcdnet_synthetic_rain.get_config("tiny")
    if row in NAFNETS:
        config.network.name = "nafnet"
        config.network.kwargs = ConfigDict({"width": 16, "enc_blocks": NAFNETS[row]})
        config.fft_weight = 0.1
        return config
    fields, config.fft_weight = ROWS[row]
    config.network.kwargs = ConfigDict({"preset": "tiny", **fields})
    return config
