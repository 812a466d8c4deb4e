"""SADNet `fast` for photographs, fine-tuned on pairs of PolyU with real camera noise.

The step is that of Chang et al., ECCV 2020, section 4.3, for the Nam data set; the settings are
ours. Start from a run of sadnet_photo.py with --config.init_from=runs/photo; by default it starts
from the weights of the package.

PolyU may be used for non-commercial purposes only (its License.txt), and the same holds for weights
trained on it: export them with --license and --notes that say so. They are no part of the package.

The 57 pairs of 512x512 pixels are of scenes that no table of docs/results scores. Nine of them, all
pairs of four scenes, are held out; the checkpoint with their best PSNR is kept.

Command: python train.py --config configs/sadnet_photo_polyu.py --workdir runs/photo-polyu
with --config.data.train.path=DIR and --config.data.eval.path=DIR. DIR holds noisy/ and clean/, made
of files of the published CroppedImages/: X_real.JPG is noisy/X.jpg, and X_mean.JPG is clean/X.jpg.
Leave out the scenes that are scored: desk and reciever of Canon5D2, toy of Canon600D, ball of
Canon80D, flower of NikonD800, plant of Sony.
Time: checkpoints/README.md; scores: docs/results/pretrained.md.
"""

from ml_collections import ConfigDict

from configs import default, sadnet_photo

# All pairs of these scenes. Pairs of one scene must not be on both sides.
HELD_OUT = "*_plug_*,*_GO_*,*_bulletin_*,*_door_*"


def get_config() -> ConfigDict:
    """Returns fine-tuning on real pairs."""
    config = sadnet_photo.get_config()
    config.init_from = "sadnet-photo"
    config.degradation.kind = "none"  # the noise of the pairs
    config.degradation.options = ConfigDict()
    for data, names in ((config.data.train, f"!{HELD_OUT}"), (config.data.eval, HELD_OUT)):
        data.source, data.path, data.names = "folder", "data/PolyU_train", names
    config.data.scales = (1.0,)
    config.stages = default.get_config().stages
    config.steps = 1_000
    config.optimizer.learning_rate = 2e-4
    config.eval_every = 250
    config.checkpoint_every = 250
    return config
