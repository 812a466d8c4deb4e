"""What is guarded: small networks, short trainings, and the images for them."""

import numpy as np

# Keyword arguments of networks.create. A network that is registered must be here.
NETWORKS = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": {"depth": 3, "features": 4},
    "ikc": {"scale": 2, "features": 4, "blocks": 1, "iterations": 2, "code_length": 3,
            "kernel_size": 5},
    "kmsr": {"features": 4, "blocks": 2},
    "lcdnet": {"width": 16, "enc_blocks": [1, 2, 1, 1]},
    "memnet": {"features": 4, "blocks": 2, "units": 2},
    "n3net": {"width": 2, "features": 4, "depth": 3, "patch": 4, "stride": 2, "window": 3},
    "nafnet": {"width": 4, "enc_blocks": [1, 2, 1, 1]},
    "rcan": {"scale": 2, "groups": 1, "blocks": 1, "features": 16},
    "restormer": {"width": 4, "blocks": [1, 2, 1, 1], "refinement_blocks": 1,
                  "heads": [1, 2, 2, 4]},
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 4, "blocks": 1, "features": 4, "growth": 2},
    "sadnet": {"preset": "small", "width": 4, "offset_width": 4},
    "unet_n2n": {},
}  # fmt: skip

STEPS = 10

# Set in every training, over configs/default.py.
_COMMON = {
    "seed": 3,
    "network.name": "dncnn",
    "network.kwargs": {"depth": 3, "features": 4},
    "data.channels": 1,
    "data.crop": 8,
    "batch_size": 2,
    "steps": STEPS,
    "log_every": 1,
    "eval_every": 0,
    "checkpoint_every": 0,
    "eval.panels": 0,
    "eval.sigmas": (25.0,),
    "eval.bucket": 8,
    "optimizer.learning_rate": 3e-3,
    "degradation.sigma_min": 5.0,
    "degradation.sigma_max": 50.0,
}
_SADNET = {
    "network.name": "sadnet",
    "network.kwargs": {"width": 2, "offset_width": 2, "groups": 1},
    "data.channels": 3,
    "data.crop": 16,
}
_GAN = {
    "objective": "gan",
    "network.name": "rcan",
    "network.kwargs": {"scale": 2, "groups": 1, "blocks": 1, "features": 16},
    "degradation.kind": "low_resolution",
    "degradation.options": {"low_resolution": {"scale": 2}},
    "data.crop": 32,
    "loss": "l1",
    "gan.critic_features": 2,
    "gan.perceptual_weight": 0.0,
    "ema_decay": 0.9,
}
_IKC = {
    "network.name": "ikc",
    "network.kwargs": NETWORKS["ikc"],
    "degradation.kind": "low_resolution",
    "degradation.options": {
        "low_resolution": {"scale": 2, "kernel": "isotropic", "width": (0.2, 2.0), "size": 5}
    },
    "data.channels": 3,
    "data.crop": 12,
    "loss": "l1",
}

# Fields by the name of the case. "devices" is the number of devices, 1 unless given.
TRAININGS = {
    "supervised": {},
    "supervised, sadnet": {**_SADNET, "optimizer.clip_norm": 1.0},
    "supervised, sfm": {"sfm.rate": 0.5},
    "supervised, sfm, masked target": {
        "sfm.rate": 0.5, "sfm.mode": "uniform", "sfm.unselected": "zero", "sfm.target": "masked",
        "loss": "sse", "dct_loss_weight": 0.1,
    },
    "supervised, ema": {
        "ema_decay": 0.9, "loss": "charbonnier", "optimizer.schedule": "cosine",
        "optimizer.warmup_steps": 3, "degradation.protocol": "float,8bit",
    },
    "supervised, accumulate": {"accumulate": 2, "loss": "l1_fft", "steps_per_call": 5,
                               "log_every": 5, "optimizer.decay_every": 4},
    "supervised, pmap": {"parallel.strategy": "pmap", "devices": 2},
    "supervised, state in shards": {"parallel.state_shards": 2, "devices": 2, "ema_decay": 0.9},
    "supervised, images in device memory": {"data.where": "device"},
    "supervised, jpeg": {"degradation.kind": "motion+camera+jpeg", "data.channels": 3,
                         "data.crop": 16},
    "noise2noise": {"objective": "noise2noise", "sfm.rate": 0.5},
    "noise2self": {"objective": "noise2self", "loss": "sse"},
    "gan": _GAN,
    "ikc_sftmd": {**_IKC, "objective": "ikc_sftmd"},
    "ikc_predictor": {**_IKC, "objective": "ikc_predictor"},
    "ikc_corrector": {**_IKC, "objective": "ikc_corrector"},
}  # fmt: skip

# Networks and trainings that run only where LCDNET_JAX_ALL_GUARDS is set.
SLOW = ("lcdnet", "supervised, sadnet", "gan", "ikc_sftmd", "ikc_predictor", "ikc_corrector")


def images(count, height, width, channels, seed=0):
    """Smooth images with some texture, uint8 ``[N, H, W, C]``, of integers alone."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (count, -(-height // 4), -(-width // 4), channels))
    large = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return (large + rng.integers(-20, 20, large.shape)).astype(np.uint8)


def floats(*shape, seed=0):
    """The same as float32 in [0, 1]."""
    return images(*shape, seed=seed).astype(np.float32) / np.float32(255)


class Batches:
    """Training data in memory, each batch a function of its step."""

    def __init__(self, config):
        self._shape = config.batch_size, config.data.crop, config.data.crop, config.data.channels

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        step = start_step
        while True:
            mask = np.ones(self._shape[0], np.float32)
            yield {"clean": floats(*self._shape, seed=step), "mask": mask}
            step += 1


def config_of(default, fields):
    """An experiment: the defaults, what all trainings here have, and the fields of one."""
    config = default.get_config()
    for name, value in {**_COMMON, **fields}.items():
        section, _, field = name.rpartition(".")
        holder = config
        for part in section.split(".") if section else ():
            holder = holder[part]
        if isinstance(value, dict):
            holder[field] = type(config)(value)
        elif name != "devices":
            holder[field] = value
    return config


def evaluation_images(config):
    """One, for the evaluation at the end."""
    return [{"name": "a", "clean": floats(1, 16, 16, config.data.channels, seed=99)[0]}]
