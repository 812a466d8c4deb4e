"""A small RCAN for gray x2 super-resolution, with and without masking, for CPUs.

Variants: "regular"; "sfm", as in sr_rcan.py. Both train with one kernel, a Gaussian of 1 pixel. The
experiment asks how they perform with other kernels.

Command: python train.py --config configs/sr_small.py:sfm --workdir runs/sr_sfm
         python eval.py --workdir runs/sr_sfm --protocols sr --kernels gaussian:0.6,gaussian:1.6
Photographs to train on are expected in data/BSDS500 and clean ones to score in data/Set5:
--config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: 16 to 25 minutes on a core of an AMD EPYC (2026-11-22);
docs/results/super_resolution.md.
"""

from ml_collections import ConfigDict

from configs import sr_rcan


def get_config(variant: str = "regular") -> ConfigDict:
    """Returns one variant of the experiment."""
    config = sr_rcan.get_config(variant)
    config.network.kwargs = ConfigDict({"preset": "small", "scale": 2})
    config.data.train.path = "data/BSDS500"
    config.data.crop = 64
    config.degradation.options = ConfigDict(
        {"low_resolution": {"scale": 2, "kernel": "isotropic", "width": (1.0, 1.0), "size": 9}}
    )
    config.batch_size = 8
    config.steps = 3_000
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.log_every = 100
    config.eval_every = 0
    config.checkpoint_every = 500
    return config
