"""KMSR for color x4 super-resolution: images blurred by a pool of kernels, enlarged, then restored.

Variants: "regular"; "sfm", as in sr_rcan.py.

Source: Zhou and Suesstrunk, ICCV 2019, with the numbers of the SFM code: L1, Adam with 1e-4, 16 a
batch. Their pool is estimated from photographs and extended by a GAN. Here it is any folder of
kernels, see lcdnet_jax.degradations.read_kernels. The crop, the number of steps and the constant
learning rate are ours. The small image is rounded to 8 bits. The enlarged image is not rounded in
training, but by the protocols of the command below.

Command: python train.py --config configs/sr_kmsr.py:sfm --workdir runs/kmsr_sfm
         python eval.py --workdir runs/kmsr_sfm --data data/Set5 --protocols sr,8bit
Kernels are expected in data/kernels:
--config.degradation.options.low_resolution.pool=DIR; photographs where sr_rcan.py expects them.
Time and score: not yet run.
"""

from ml_collections import ConfigDict

from configs import sr_rcan


def get_config(variant: str = "regular") -> ConfigDict:
    """Returns one variant of the comparison."""
    config = sr_rcan.get_config(variant)
    config.network.name = "kmsr"
    config.network.kwargs = ConfigDict()
    config.data.channels = 3
    config.data.crop = 128
    config.degradation.options = ConfigDict(
        {
            "low_resolution": {
                **{"scale": 4, "kernel": "pool", "pool": "data/kernels"},
                **{"protocol": "8bit", "enlarge": True},
            }
        }
    )
    config.degradation.protocol = "float"
    config.steps = 300_000
    config.optimizer.decay_every = config.steps
    return config
