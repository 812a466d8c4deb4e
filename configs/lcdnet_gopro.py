"""LCDNet for motion deblurring on GoPro: 2103 training pairs, 1111 test pairs.

The paper's settings were not available to us. Adam, cosine schedule, crops of 256 pixels and
gradient clipping follow related networks (SFNet, FSNet, M3SNet) where these agree. The learning
rate and the number of steps are ours. See docs/explanations/lcdnet.md.

Command: python train.py --config configs/lcdnet_gopro.py --workdir runs/gopro
         python eval.py --workdir runs/gopro --modes full,local,tiled
         python eval.py --workdir runs/gopro --data hide:data/HIDE,realblur_j:data/RealBlur
GoPro_Large is expected in data/GoPro: --config.data.train.path=DIR and --config.data.eval.path=DIR.
The decoded pairs take 11.6 GB of memory. With less: --config.data.cache_gb=4
--config.data.cache_dir=DIR, a folder on a local disk.
Time and score: not yet run; it needs several accelerators.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "base") -> ConfigDict:
    """Returns the recipe for a preset of LCDNet."""
    config = default.get_config()
    config.network.name = "lcdnet"
    config.network.kwargs = ConfigDict({"preset": preset})
    config.network.dtype = "bfloat16"
    config.data.train.source = config.data.eval.source = "gopro"
    config.data.train.path = config.data.eval.path = "data/GoPro"
    config.data.crop = 256
    config.data.cache_gb = 12.0  # 2103 pairs of 1280x720 pixels, decoded: 11.6 GB
    config.degradation.kind = "none"
    config.batch_size = 32
    config.steps = 300_000
    config.loss = "l1_fft"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.final_fraction = 2e-4  # 1e-7
    config.optimizer.warmup_steps = 1_000
    config.optimizer.clip_norm = 0.01
    config.eval_every = 20_000
    config.eval.max_images = 100
    return config
