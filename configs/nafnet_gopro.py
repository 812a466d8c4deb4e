"""NAFNet for motion deblurring on GoPro, the recipe of the official code.

Source: Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, and the option files
``options/train/GoPro/NAFNet-width32.yml`` and ``NAFNet-width64.yml``: crops of 256 pixels from
tiles of 512, minus PSNR as the loss, AdamW with betas (0.9, 0.9), gradients clipped to 0.01, and a
cosine from 1e-3 to 1e-7. Width 32 has 200,000 steps of 32 crops, width 64 has 400,000 of 64 and a
weight decay of 1e-3. The authors' batches are of 8 GPUs.

Command: python train.py --config configs/nafnet_gopro.py:32 --workdir runs/nafnet_gopro
         python eval.py --workdir runs/nafnet_gopro
GoPro_Large is expected in data/GoPro: --config.data.train.path=DIR and --config.data.eval.path=DIR.
The decoded pairs take 11.6 GB of memory. With less: --config.data.cache_gb=4
--config.data.cache_dir=DIR, a folder on a local disk.
Time and score: not yet run; it needs several accelerators. Published scores: docs/results/peers.md.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(width: str = "32") -> ConfigDict:
    """Returns the recipe for a width of 32 or 64 channels."""
    if width not in ("32", "64"):
        raise ValueError(f"no width {width!r}; use 32 or 64")
    config = default.get_config()
    config.network.name = "nafnet"
    config.network.kwargs = ConfigDict({"preset": f"gopro_width{width}"})
    config.data.train.source = config.data.eval.source = "gopro"
    config.data.train.path = config.data.eval.path = "data/GoPro"
    config.data.crop, config.data.tile, config.data.tile_stride = 256, 512, 256
    config.data.cache_gb = 12.0  # 2103 pairs of 1280x720 pixels, decoded: 11.6 GB
    config.degradation.kind = "none"
    config.batch_size = 32 if width == "32" else 64
    config.steps = 200_000 if width == "32" else 400_000
    config.loss = "psnr"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.beta2 = 0.9
    config.optimizer.weight_decay = 0.0 if width == "32" else 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.final_fraction = 1e-4  # 1e-7
    config.optimizer.clip_norm = 0.01
    config.eval_every = 20_000
    config.eval.max_images = 100
    return config
