"""The U-Net of Noise2Noise on pairs of noisy images.

Variants: ":sfm" masks the first image as the paper describes it, ":released" as the authors'
released code does (half of the inputs are black).

The recipe is that of the SFM paper's code for BSD: the patches and noise levels of sfm_awgn.py; two
copies with independent noise of equal level, the first masked after noise is added; Adam with beta2
0.99 and 1e-4, batches of 64. The code divides the learning rate again at every step from epoch 30
of 51, so that it falls to 0. Only 29 epochs of 563 batches have an effect; those are the steps
here.

Command: python train.py --config configs/sfm_n2n.py:sfm --workdir runs/n2n_sfm
         python eval.py --workdir runs/n2n_sfm --protocols clipped --sigmas 10,20,...,100
No score yet: it takes a day on a CPU. The published models' scores are in docs/results/sfm.md.
"""

from ml_collections import ConfigDict

from configs import sfm_awgn


def get_config(variant: str = "") -> ConfigDict:
    """Returns the recipe without masking, or with one of the two kinds of it."""
    if variant not in ("", "sfm", "released"):
        raise ValueError(f"no variant {variant!r}; use sfm, released or none")
    config = sfm_awgn.get_config()
    config.network.name = "unet_n2n"
    config.objective = "noise2noise"
    if variant:
        config.sfm.rate = 0.5
    if variant == "released":
        config.sfm.unselected = "zero"
    config.batch_size = 64
    config.steps = 29 * 563
    config.optimizer.learning_rate = 1e-4
    config.optimizer.beta2 = 0.99
    config.optimizer.decay_every = config.steps
    return config
