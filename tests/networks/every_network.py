"""The smallest fields of networks, for the tests beside."""

TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": {"depth": 3, "features": 4},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "n3net": {
        **{"width": 2, "features": 4, "depth": 3},
        **{"neighbours": 2, "patch": 4, "stride": 2, "window": 3},
    },
    "ridnet": {"features": 48, "blocks": 1},
    "unet_n2n": {},
    "nafnet": {"channels": 1, "width": 4, "enc_blocks": (1, 2, 1, 1)},
    "restormer": {
        **{"channels": 1, "width": 4, "blocks": (1, 2, 1, 1)},
        **{"refinement_blocks": 1, "heads": (1, 2, 2, 4)},
    },
    "kmsr": {"channels": 1, "features": 4, "blocks": 2},
    "rcan": {"scale": 2, "groups": 2, "blocks": 2, "features": 48},
    "rrdb": {"scale": 3, "blocks": 2, "features": 4, "growth": 3},
}
