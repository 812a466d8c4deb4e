"""Restormer for motion deblurring on GoPro, the recipe of the official code.

Source: Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration",
CVPR 2022, section 4, and the authors' option files: progressive training on crops of 128, 160,
192, 256, 320 and 384 pixels from tiles of 512, with batches of 64, 40, 32, 16, 8 and 8; AdamW with
weight decay 1e-4, mean absolute error, gradients clipped to 0.01. The learning rate is 3e-4 for
92,000 steps and then falls to 1e-6 by a cosine. The batches are those of 8 GPUs.

Command: python train.py --config configs/restormer_gopro.py --workdir runs/restormer_gopro
         python eval.py --workdir runs/restormer_gopro
GoPro_Large is expected in data/GoPro: --config.data.train.path=DIR and --config.data.eval.path=DIR.
The decoded pairs take 11.6 GB of memory. With less: --config.data.cache_gb=4
--config.data.cache_dir=DIR, a folder on a local disk.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the recipe; the other files restormer_*.py change the data and the network."""
    config = default.get_config()
    config.network.name = "restormer"
    config.network.kwargs = ConfigDict({"preset": "motion_deblurring"})
    config.data.train.source = config.data.eval.source = "gopro"
    config.data.train.path = config.data.eval.path = "data/GoPro"
    config.data.crop, config.data.tile, config.data.tile_stride = 384, 512, 256
    config.data.cache_gb = 12.0  # 2103 pairs of 1280x720 pixels, decoded: 11.6 GB
    config.degradation.kind = "none"
    config.steps = 300_000
    config.batch_size = 64
    config.stages.steps = (92_000, 64_000, 48_000, 36_000, 36_000, 24_000)
    config.stages.crops = (128, 160, 192, 256, 320, 384)
    config.stages.batch_sizes = (64, 40, 32, 16, 8, 8)
    config.loss = "l1"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule = "cosine_restarts"
    config.optimizer.cycle_steps = (92_000, 208_000)
    config.optimizer.cycle_weights = (1.0, 1.0)
    config.optimizer.cycle_final_fractions = (1.0, 1 / 300)  # 3e-4, then 1e-6
    config.optimizer.clip_norm = 0.01
    config.eval_every = 20_000
    config.eval.max_images = 100
    return config
