"""A SADNet of a few thousand parameters on the photographs of scikit-image, for quick tests.

Command: python train.py --config configs/tiny.py --workdir runs/tiny
Time: under a minute on 2 CPU cores. Its score is meaningless. The tests use it.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns eight steps with every part of training enabled."""
    config = default.get_config()
    config.network.kwargs = ConfigDict({"width": 2, "offset_width": 2, "groups": 1})
    config.data.crop = 16
    config.batch_size = 8
    config.steps = 8
    config.optimizer.learning_rate = 1e-3
    config.optimizer.clip_norm = 1.0
    config.ema_decay = 0.9
    config.log_every = 2
    config.eval_every = 4
    config.checkpoint_every = 4
    config.eval.max_images = 1
    config.eval.panels = 1
    return config
