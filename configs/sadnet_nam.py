"""SADNet for the Nam data set: sadnet_real.py's network, fine-tuned on PolyU.

Source: Chang et al., ECCV 2020, section 4.3. Neither the paper nor its code gives the number of
steps and the learning rate, so both are ours: 20,000 steps at the final rate of sadnet_real.py.

Command: python train.py --config configs/sadnet_nam.py --workdir runs/nam
(after sadnet_real.py in runs/real, or --config.init_from=DIR)
Time and score: not yet run. The paper reports 42.92 dB on 25 patches of Nam.
"""

from ml_collections import ConfigDict

from configs import sadnet_real


def get_config() -> ConfigDict:
    """Returns fine-tuning from runs/real on the 100 pairs of PolyU, scored on patches of Nam."""
    config = sadnet_real.get_config()
    config.init_from = "runs/real"
    config.data.train.source = "polyu"
    config.data.train.path = "data/PolyU"
    config.data.eval.source = "nam"
    config.data.eval.path = "data/Nam"
    config.data.tile = config.data.tile_stride = 0  # 300/150 would leave out the edges of 512x512
    config.steps = 20_000
    config.optimizer.learning_rate = 2.5e-5
    return config
