"""A small DnCNN for gray images, with and without frequency masking, for CPUs.

Variants: "regular"; "sfm", masking as the SFM paper describes it (before noise is added, the target
is the clean image); "released", masking as in the authors' released training code (images that are
not masked are black, the target is the masked image). All else is equal, including the updates.

Command: python train.py --config configs/sfm_small.py:sfm --workdir runs/small_sfm
         python eval.py --workdir runs/small_sfm --protocols clipped --sigmas 5,10,15,...,100
Photographs to train on are expected in data/BSDS500 and BSD68 in data/BSD68:
--config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: ten minutes of CPU time; docs/results/sfm.md has the scores of all variants.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "regular") -> ConfigDict:
    """Returns one variant of the experiment."""
    if variant not in ("regular", "sfm", "released"):
        raise ValueError(f"no variant {variant!r}; use regular, sfm or released")
    config = default.get_config()
    config.network.name = "dncnn"
    config.network.kwargs = ConfigDict({"depth": 8, "features": 24})
    config.data.train.source = config.data.eval.source = "folder"
    config.data.train.path = "data/BSDS500"
    config.data.eval.path = "data/BSD68"
    config.data.channels = 1
    config.data.crop = 64
    config.degradation.sigma_min = 0.0
    config.degradation.sigma_max = 55.0
    if variant != "regular":
        config.sfm.rate = 0.5
    if variant == "released":
        config.sfm.unselected = "zero"
        config.sfm.target = "masked"
    config.batch_size = 16
    config.steps = 3_000
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.log_every = 100
    config.eval_every = 0
    config.checkpoint_every = 500
    config.eval.sigmas = (15.0, 25.0, 50.0)
    return config
