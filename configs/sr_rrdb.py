"""RRDB, the generator of ESRGAN, for gray x4 super-resolution, trained by L1 alone.

Variants: "regular"; "sfm", as in sr_rcan.py.

Source: Wang et al., ECCV workshops 2018, the network from which their adversarial training
starts: clean crops of 128 pixels, 16 a batch, L1, Adam with 2e-4 halved every 200,000 steps; there
on DIV2K, Flickr2K and OutdoorSceneTraining. The number of steps is ours; all else is as in
sr_rcan.py.

Command: python train.py --config configs/sr_rrdb.py:sfm --workdir runs/rrdb_sfm
         python eval.py --workdir runs/rrdb_sfm --data data/Set5 --protocols sr,8bit
Data is expected where sr_rcan.py expects it. Time and score: not yet run.
"""

from ml_collections import ConfigDict

from configs import sr_rcan


def get_config(variant: str = "regular") -> ConfigDict:
    """Returns one variant of the comparison."""
    config = sr_rcan.get_config(variant)
    config.network.name = "rrdb"
    config.network.kwargs = ConfigDict({"scale": 4})
    config.data.crop = 128
    config.optimizer.learning_rate = 2e-4
    return config
