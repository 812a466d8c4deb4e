"""SADNet `small` (0.31 million parameters) for the noise in camera photographs.

Our own recipe: noise of a sensor from very low levels to those of a high ISO speed, and what a
camera does afterwards (docs/explanations/degradations.md#a-whole-camera), made from clean
photographs. The best checkpoint by the PSNR of photographs that are held out of DIR is kept.

Variants:
    whole    all steps of a camera, the default
    simple   sensor, demosaicing, white balance and one JPEG: the recipe of the weights sadnet-photo
             in the package, unchanged

Command: python train.py --config configs/sadnet_photo.py --workdir runs/photo
with --config.data.train.path=DIR, and --config.data.eval.path=DIR, where DIR holds several hundred
photographs. The comma is part of the path: the second source, the photographs of scikit-image, has
an empty path. `simple` needs only the first of the two.
Time and score: `whole` has not been run yet. `simple`: time in checkpoints/README.md, scores in
docs/results/pretrained.md.
"""

from ml_collections import ConfigDict

from configs import sadnet_blind


def get_config(camera: str = "whole") -> ConfigDict:
    """Returns the color recipe, with the camera ``whole`` or ``simple``."""
    if camera not in ("whole", "simple"):
        raise ValueError(f"no variant {camera!r}; use whole or simple")
    config = sadnet_blind.get_config()
    config.degradation.kind = "camera"
    config.degradation.protocol = "8bit"
    # The default of camera_noise, listed so that the command line can change it.
    config.degradation.options = ConfigDict({"camera": {"shot": (1e-4, 0.012)}})
    if camera == "simple":
        return config
    config.degradation.options.camera = ConfigDict(
        {
            "shot": (3e-5, 0.03),
            "quality": (70, 100),
            "color_matrix": True,
            "balance": "demosaiced",
            "contrast": (0.0, 1.0),
            "zoom": (1.0, 2.0),
            "denoise": (0.0, 1.0),
            "sharpen": (0.0, 1.0),
            "ground_truth": "average",
            "subsampling": "random",
            "shift_blocks": True,
            "second_quality": (60, 100),
        }
    )
    # One photograph of ten, by the last digits of names.
    config.data.eval = config.data.train.copy_and_resolve_references()
    config.data.train.names, config.data.eval.names = f"!{HELD_OUT}", HELD_OUT
    config.best_metric = "psnr"
    config.eval_every = 2_000
    return config


HELD_OUT = "folder_*7"
