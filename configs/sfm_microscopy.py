"""Microscopy without clean images: the U-Net by Noise2Noise or Noise2Self, with or without SFM.

Variants: "n2n" or "n2s", alone or with ":sfm". The data is FMD (Zhang et al., CVPR 2019), twelve
kinds of images with 1, 2, 4, 8 or 16 captures averaged; field 19 is for testing.

The recipe is that of the SFM paper's code: the four corners of 256 pixels of an image of 512,
sixteen a batch; sums of squares; Adam with beta2 0.99; a rate that rises over 30 % of the training
to 1e-4 (n2n, 400 epochs of 285 batches) or 1e-5 (n2s, 100 epochs), then falls as a cosine. The
network works on values from -0.5 to 0.5. Four things differ here: corners are drawn one by one and
turned, instead of all four of an image together; the second capture is half the captures further
on, instead of any other; the rate begins at nothing, instead of a tenth; with ":sfm", images that
are not masked stay as they are, instead of turning gray.

Command: python train.py --config configs/sfm_microscopy.py:n2s:sfm --workdir runs/n2s_sfm
FMD is expected in data/FMD: --config.data.train.path=DIR and --config.data.eval.path=DIR.
No score yet: days on a CPU. Published: docs/sfm.md.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "n2n") -> ConfigDict:
    """One objective, with "sfm" or without."""
    objective, _, masking = variant.partition(":")
    if objective not in ("n2n", "n2s") or masking not in ("", "sfm"):
        raise ValueError(f"no variant {variant!r}; use n2n or n2s, alone or with :sfm")
    config = default.get_config()
    config.network.name = "unet_n2n"
    config.network.kwargs = ConfigDict({"input_range": (-0.5, 0.5)})
    config.data.train.source = config.data.eval.source = "fmd"
    config.data.train.path = "data/FMD"
    config.data.eval.path = "data/FMD/test_mix"
    config.data.train.split = "train"
    config.data.eval.split = "test"
    config.data.eval.feature = "raw"
    config.data.channels = 1
    config.data.crop = config.data.tile = config.data.tile_stride = 256
    config.degradation.kind = "none"
    if objective == "n2s":
        config.objective = "noise2self"
    if masking:
        config.sfm.rate = 0.5
    config.loss = "sse"
    config.batch_size = 16
    config.steps = (400 if objective == "n2n" else 100) * 285
    config.optimizer.learning_rate = 1e-4 if objective == "n2n" else 1e-5
    config.optimizer.beta2 = 0.99
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = config.steps * 3 // 10
    config.optimizer.final_fraction = 1e-5
    return config
