"""Microscopy denoising without clean images: a U-Net by Noise2Noise or Noise2Self, optionally SFM.

Variants: "n2n" or "n2s", alone or with ":sfm". The data set is FMD (Zhang et al., CVPR 2019):
twelve kinds of images, averages of 1, 2, 4, 8 or 16 captures. Field 19 is the test set.

The recipe is that of the SFM paper's code: the four corners of 256 pixels of images of 512, 16 in a
batch; sum of squares; Adam with beta2 0.99; a learning rate that rises during 30 % of the training
to 1e-4 (n2n, 400 epochs of 285 batches) or 1e-5 (n2s, 100 epochs), then falls as a cosine. The
network works on values from -0.5 to 0.5. Four things differ here. Corners are drawn one by one and
augmented, instead of all four of an image together. The second capture is half of the captures
further on, instead of any other. The learning rate starts at 0, instead of a tenth of its peak.
With ":sfm", images that are not masked are unchanged, instead of gray.

Command: python train.py --config configs/sfm_microscopy.py:n2s:sfm --workdir runs/n2s_sfm
FMD is expected in data/FMD: --config.data.train.path=DIR and --config.data.eval.path=DIR.
No score yet: it takes days on a CPU. The README of the authors' code reports, for single captures,
without and with masking: on the mixed set 35.37 and 35.50 dB (n2n), 31.87 and 32.40 dB (n2s); on
two-photon images without BPAE_R 32.70 and 33.05 dB (n2n), 30.51 and 30.92 dB (n2s). On BPAE_R
masking makes n2n worse.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "n2n") -> ConfigDict:
    """Returns one objective, with or without masking."""
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
