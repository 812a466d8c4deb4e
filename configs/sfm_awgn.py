"""Blind gray denoisers of the SFM paper, with and without frequency masking.

Variants: dncnn, memnet or ridnet, alone, with ":sfm" (masking as the paper describes it) or with
":released" (masking as in the authors' released code: images that are not masked are black, and the
target is the masked image). All variants train for the updates of 50 epochs. The published masked
models were trained for twice as many (--config.steps=28200, docs/explanations/sfm.md).

The recipe is that of the code: BSD400, patches of 64 pixels with a stride of 32, images at four
scales, noise levels 0 to 55 drawn for each image, unclipped, Adam with 1e-3 divided by 10 every 30
epochs of 282 batches. The code stores each patch with one augmented copy; here augmentation is
drawn each time.

Command: python train.py --config configs/sfm_awgn.py:dncnn:sfm --workdir runs/dncnn_sfm
         python eval.py --workdir runs/dncnn_sfm --protocols clipped --sigmas 5,10,15,...,100
Scores are published for the protocol "clipped"; training reports those of "float".
BSD400 is expected in data/BSD400 and BSD68 in data/BSD68, as folders of gray images:
--config.data.train.path=DIR and --config.data.eval.path=DIR. No score yet: it takes a day on a CPU.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "dncnn") -> ConfigDict:
    """Returns one network with one kind of masking."""
    network, _, masking = variant.partition(":")
    if network not in ("dncnn", "memnet", "ridnet") or masking not in ("", "sfm", "released"):
        raise ValueError(
            f"no variant {variant!r}; use dncnn, memnet or ridnet, alone or with :sfm or :released"
        )
    config = default.get_config()
    config.network.name = network
    config.network.kwargs = ConfigDict()
    config.data.train.source = config.data.eval.source = "folder"
    config.data.train.path = "data/BSD400"
    config.data.eval.path = "data/BSD68"
    config.data.channels = 1
    config.data.crop = config.data.tile = 64
    config.data.tile_stride = 32
    config.data.scales = (1.0, 0.9, 0.8, 0.7)
    config.degradation.sigma_min = 0.0
    config.degradation.sigma_max = 55.0
    if masking:
        config.sfm.rate = 0.5
    if masking == "released":
        config.sfm.unselected = "zero"
        config.sfm.target = "masked"
    config.loss = "sse"
    config.batch_size = 128
    config.steps = 14_100
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay_every = 8_460
    config.optimizer.decay_factor = 0.1
    config.eval_every = 2_820
    config.checkpoint_every = 282
    config.eval.sigmas = (15.0, 25.0, 50.0)
    return config
