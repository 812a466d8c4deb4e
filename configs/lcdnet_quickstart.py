"""LCDNet `tiny` for heavy rain on the photographs of scikit-image, in a few minutes.

Small batches and a high learning rate that falls to zero, for two CPU cores.

Command: python train.py --config configs/lcdnet_quickstart.py --workdir runs/lcdnet_quickstart
Time and score: 5.5 minutes of CPU time (2026-11-20); 21.04 dB on the three held-out photographs,
12.12 before (seed 0, protocol rain-8bit).
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the configuration. Each image gets its own rain; three photographs are held out."""
    config = default.get_config()
    config.network.name = "lcdnet"
    config.network.kwargs = ConfigDict({"preset": "tiny"})
    config.data.crop = 64
    config.degradation.kind = "rain"
    config.degradation.options = ConfigDict({"rain": {"kind": "heavy"}})
    config.degradation.protocol = "8bit"
    config.batch_size = 2
    config.steps = 600
    config.loss = "l1_fft"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.optimizer.clip_norm = 1.0
    config.ema_decay = 0.99
    config.log_every = 50
    config.eval_every = 0
    config.checkpoint_every = 200
    config.eval.panels = 3
    return config
