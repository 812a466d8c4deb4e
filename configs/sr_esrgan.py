"""ESRGAN for gray x4 super-resolution: RRDB, fine-tuned with a critic and features of VGG19.

Variants: "regular"; "sfm", as in sr_rcan.py. Starts from the run of sr_rrdb.py of the same variant.

Source: Wang et al., ECCV workshops 2018: clean crops of 128 pixels, 16 a batch, Adam with 1e-4 for
both networks, halved at 50,000, 100,000, 200,000 and 300,000 steps of 400,000 (here every 100,000).
The loss weights are those of its section 4.1: L1 0.01, features 1, critic 0.005. All else is as in
sr_rcan.py.

Command: python train.py --config configs/sr_esrgan.py:sfm --workdir runs/esrgan_sfm
         python eval.py --workdir runs/esrgan_sfm --data data/Set5 --protocols sr,8bit
Data is expected where sr_rcan.py expects it, and torchvision's VGG19 weights in
data/vgg19-dcbb9e9d.pth (https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, read by PyTorch);
elsewhere with --config.gan.vgg=FILE, or without: --config.gan.perceptual_weight=0.
Time and score: not yet run.
"""

from ml_collections import ConfigDict

from configs import sr_rrdb


def get_config(variant: str = "regular") -> ConfigDict:
    """Returns one variant of the comparison."""
    config = sr_rrdb.get_config(variant)
    config.objective = "gan"
    config.gan.vgg = "data/vgg19-dcbb9e9d.pth"
    config.init_from = "runs/rrdb_sfm" if variant == "sfm" else "runs/rrdb"
    config.steps = 400_000
    config.optimizer.learning_rate = 1e-4
    config.optimizer.decay_every = 100_000
    return config
