"""SADNet `fast` (1.03 million parameters) for the noise in camera photographs.

Our own recipe: noise of a sensor from very low levels to those of a high ISO speed, and what a
camera does afterwards (docs/explanations/degradations.md#a-whole-camera), made from clean
photographs. The best checkpoint by the PSNR of photographs that are held out of DIR is kept.

Command: python train.py --config configs/sadnet_photo.py --workdir runs/photo
with --config.data.train.path=DIR, and --config.data.eval.path=DIR, where DIR holds several hundred
photographs. The comma is part of the path: the second source, the photographs of scikit-image, has
an empty path.
Time: checkpoints/README.md; scores: docs/results/pretrained.md.
"""

from ml_collections import ConfigDict

from configs import sadnet_blind

# One photograph of ten, by the last digits of names.
HELD_OUT = "folder_*7"


def get_config() -> ConfigDict:
    """Returns the color recipe."""
    config = sadnet_blind.get_config()
    config.network.kwargs.preset = "fast"
    config.degradation.kind = "camera"
    config.degradation.protocol = "8bit"
    config.degradation.options = ConfigDict(
        {
            "camera": {
                "shot": (3e-5, 0.03),
                "quality": (70, 100),
                "color_matrix": (0.0, 1.0),
                "balance": "demosaiced",
                "contrast": (0.0, 1.0),
                "zoom": (1.0, 2.0),
                "denoise": (0.0, 1.0),
                "sharpen": (0.0, 1.0),
                "ground_truth": "average",
                "subsampling": "random",
                "shift_blocks": True,
                "second_quality": (60, 100),
                "processed": 0.5,
            }
        }
    )
    config.data.eval = config.data.train.copy_and_resolve_references()
    config.data.train.names, config.data.eval.names = f"!{HELD_OUT}", HELD_OUT
    config.best_metric = "psnr"
    config.optimizer.beta2 = 0.99  # with 0.999 some runs lose the deformable sampling
    config.steps = 15_000
    # Crops grow during the run, because a step with small crops takes less time.
    config.data.crop = 128
    config.stages.steps = (8_000, 5_000, 2_000)
    config.stages.crops = (64, 96, 128)
    config.stages.batch_sizes = (4, 4, 4)
    config.eval_every = 4_000
    return config
