"""LCDNet for motion deblurring, trained on clean photographs that are blurred on the device.

Stored values are blurred, as in GoPro's folder `blur`, and rounded to 8 bits. Variants: a preset of
LCDNet, or "control", which is `tiny` with NAFNet's blocks, plain skip connections and no MSFM.

Command: python train.py --config configs/lcdnet_synthetic_motion.py:tiny --workdir runs/motion
Photographs to train on are expected in data/BSDS500 and clean ones to score in data/CBSD68:
--config.data.train.path=DIR and --config.data.eval.path=DIR.
Time and score: an hour of CPU time (2026-11-20); 26.85 dB on CBSD68 with synthetic motion (25.15
before); it does not help on GoPro. docs/results/lcdnet.md has all scores.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(size: str = "tiny") -> ConfigDict:
    """Returns a short run for CPUs; raise steps and batch_size for more."""
    config = default.get_config()
    config.network.name = "lcdnet"
    config.network.kwargs = ConfigDict({"preset": size})
    if size == "control":
        config.network.kwargs = ConfigDict(
            {"preset": "tiny", "block": "naf", "use_msfm": False, "scam_type": "none"}
        )
    config.data.train.source = config.data.eval.source = "folder"
    config.data.train.path = "data/BSDS500"
    config.data.eval.path = "data/CBSD68"
    config.data.crop = 96
    config.degradation.kind = "motion"
    config.degradation.options = ConfigDict(
        {"motion": {"length": (4.0, 12.0), "anxiety": 0.3, "gamma": 1.0}}
    )
    config.degradation.protocol = "8bit"
    config.batch_size = 2
    config.steps = 9_000
    config.loss = "l1_fft"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 200
    config.optimizer.clip_norm = 1.0
    config.ema_decay = 0.99
    config.log_every = 100
    config.eval_every = 3_000
    config.checkpoint_every = 500
    config.eval.max_images = 10
    return config
