"""The U-Net of Noise2Noise on pairs of noisy images.

Variants: ":sfm" masks the first of them as the paper describes it, ":released" as the authors'
released code does (half of the inputs are black).

The recipe of the SFM paper's code for BSD: the patches and levels of sfm_awgn.py; two copies with
independent noise of equal level, the first masked after noise was added; Adam with beta2 0.99,
1e-4, batches of 64. Its rate falls to nothing at epoch 30 of 51 (it is divided again at every
step), so that 29 epochs of 563 batches count; those are the steps here.

Command: python train.py --config configs/sfm_n2n.py:sfm --workdir runs/n2n_sfm
         python eval.py --workdir runs/n2n_sfm --protocols clipped --sigmas 10,20,...,100
No score yet: a day on a CPU. The published models' scores are in docs/sfm.md.
"""

from ml_collections import ConfigDict

from configs import sfm_awgn


def get_config(variant: str = "") -> ConfigDict:
    """Without masking, or with one of the two ways of it."""
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
