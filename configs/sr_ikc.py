"""IKC for color x4 super-resolution with unknown blur kernels.

Variants: the stages "sftmd", "predictor" and "corrector", in this order. Each starts from the run
of the previous stage. Each also with ":sfm", as in sr_rcan.py, which starts from the ":sfm" run of
the previous stage. The last run is the result.

Source: Gu et al., CVPR 2019, with the numbers of the SFM code: isotropic Gaussians of 21x21 pixels
and widths from 0.2 to 4, clean crops of 256 pixels, 32 a batch. SFTMD: L1, Adam with 1e-4, 500,000
steps, here with one cosine instead of several. Predictor and corrector: 5,000 steps with 1e-4 and
a beta2 of 0.99. The corrector is updated once for a batch, by the mean over its 7 corrections,
which is our choice. Small images are made by Pillow's bicubic and rounded to 8 bits.

The released SFM code masks in the last two stages only. It masks every image, and each coefficient
independently: ":sfm" with --config.sfm.rate=1.0 --config.sfm.mode=random, and for the predictor
--config.init_from=runs/ikc_sftmd.

Command: python train.py --config configs/sr_ikc.py:sftmd:sfm --workdir runs/ikc_sftmd_sfm
         python train.py --config configs/sr_ikc.py:predictor:sfm --workdir runs/ikc_predictor_sfm
         python train.py --config configs/sr_ikc.py:corrector:sfm --workdir runs/ikc_corrector_sfm
         python eval.py --workdir runs/ikc_corrector_sfm --data data/Set5 --protocols sr,8bit
Scores of the first two runs use all three networks, some of which are not trained yet. The training
log shows the stage's own metrics. Without ":sfm" the directories are runs/ikc_sftmd and so on.
Data is expected where sr_rcan.py expects it. Time and score: not yet run.
"""

from ml_collections import ConfigDict

from configs import sr_rcan

_STAGES = ("sftmd", "predictor", "corrector")


def get_config(variant: str = "sftmd") -> ConfigDict:
    """Returns one stage of one variant."""
    stage, colon, masking = variant.partition(":")
    if stage not in _STAGES or (colon and masking != "sfm"):
        raise ValueError(f"no variant {variant!r}; use {', '.join(_STAGES)}, or one with :sfm")
    config = sr_rcan.get_config("sfm" if masking else "regular")
    config.network.name = "ikc"
    config.network.kwargs = ConfigDict({"preset": "base", "scale": 4})
    config.data.channels = 3
    config.data.crop = 256
    config.degradation.options = ConfigDict(
        {"low_resolution": {"scale": 4, "kernel": "isotropic", "width": (0.2, 4.0), "size": 21}}
    )
    config.objective = f"ikc_{stage}"
    config.batch_size = 32
    config.optimizer.learning_rate = 1e-4
    if stage == "sftmd":
        config.steps = 500_000
        config.optimizer.schedule = "cosine"
        return config
    before = _STAGES[_STAGES.index(stage) - 1]
    config.init_from = f"runs/ikc_{before}" + ("_sfm" if masking else "")
    config.steps = config.optimizer.decay_every = 5_000
    config.optimizer.beta2 = 0.99
    config.eval_every = config.checkpoint_every = 1_000
    return config
