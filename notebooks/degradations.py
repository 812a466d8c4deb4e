# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lcdnet_jax/blob/main/notebooks/degradations.ipynb)
#
# # Degradations: training pairs from clean photographs
#
# Every degradation is a function of random keys and clean images `[N, H, W, C]`, with one key for
# each image. It runs jitted on the device, and any of them can be joined.
# [Degradations](../docs/explanations/degradations.md) explains each.

# %%
import os
import pathlib
import subprocess
import sys

if "google.colab" in sys.modules:  # on Colab: fetch the repository and install it
    subprocess.run(["git", "clone", "-q", "https://github.com/OWNER/lcdnet_jax"], check=True)
    os.chdir("lcdnet_jax")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", ".[notebooks]"], check=True)

ROOT = next(p for p in (pathlib.Path.cwd(), pathlib.Path.cwd().parent) if (p / "configs").is_dir())
sys.path.insert(0, str(ROOT))

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

from lcdnet_jax import degradations, image_io, metrics

SIDE = int(os.environ.get("DEGRADATIONS_SIDE", "256"))

# %% tags=["thumbnail"]
clean = jnp.asarray(image_io.to_float(skimage.data.astronaut()[:SIDE, 100 : 100 + SIDE]))[None]
partial = functools.partial
KINDS = {
    "motion, 16 pixels": partial(degradations.motion_blur, length=(16.0, 16.0)),
    "defocus, radius 3": partial(degradations.defocus, radius=(3.0, 3.0)),
    "heavy rain": partial(degradations.rain, kind="heavy"),
    "camera noise": partial(degradations.camera_noise, shot=(6e-3, 6e-3)),
    "Gaussian noise, sigma 25": partial(degradations.awgn, sigma=25.0),
    "JPEG, quality 10": lambda keys, images: degradations.jpeg(images, quality=10),
}


def show(degrade, key):
    degraded = jnp.clip(jax.jit(degrade)(jax.random.split(key, 1), clean), 0, 1)
    return np.asarray(degraded[0]), float(metrics.psnr(degraded, clean)[0])


figure, axes = plt.subplots(2, 3, figsize=(8.4, 6))
for axis, (name, degrade) in zip(axes.flat, KINDS.items(), strict=True):
    image, score = show(degrade, jax.random.key(4))
    axis.imshow(image)
    axis.set_title(f"{name}: {score:.1f} dB")
    axis.axis("off")
plt.tight_layout()
plt.show()

# %% [markdown]
# `compose` applies several in order, each with keys of its own. An option that is a pair is a range
# from which every image draws. The same keys give the same images.

# %%
both = degradations.compose(
    partial(degradations.motion_blur, length=(4.0, 24.0)),
    partial(degradations.camera_noise, shot=(1e-4, 5e-3)),
)
figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.2))
for seed, axis in enumerate(axes):
    image, score = show(both, jax.random.key(seed))
    axis.imshow(image)
    axis.set_title(f"seed {seed}: {score:.1f} dB")
    axis.axis("off")
plt.show()

keys = jax.random.split(jax.random.key(0), 1)
print("equal:", bool((both(keys, clean) == both(keys, clean)).all()))

# %% [markdown]
# ## A whole camera
#
# Noise changes on its way from the sensor to the file. Each picture adds a step to the one before
# it; all show the same noise of the sensor. The titles have its standard deviation in levels of
# 255, and how much neighbors in a row, and red and green, vary together.

# %%
STEPS = {
    "sensor": {"quality": None, "ground_truth": "average"},
    "color matrix": {"color_matrix": (1, 1), "balance": "demosaiced"},
    "noise reduction": {"denoise": (0.8, 0.8)},
    "zoom": {"zoom": (1.5, 1.5)},
    "sharpening": {"sharpen": (0.5, 0.5)},
    "JPEG": {"quality": (60, 60), "shift_blocks": True},
}


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


options = {"shot": (4e-3, 4e-3)}
figure, axes = plt.subplots(2, 3, figsize=(8.4, 6.4))
for axis, (name, more) in zip(axes.flat, STEPS.items(), strict=True):
    options |= more
    image, _ = show(partial(degradations.camera_noise, **options), jax.random.key(4))
    noise = image - np.asarray(clean[0])
    red = noise[..., 0]
    neighbors, colors = correlation(red[:, 1:], red[:, :-1]), correlation(red, noise[..., 1])
    crop = image[SIDE // 4 : SIDE // 4 + 96, SIDE // 4 : SIDE // 4 + 96]
    axis.imshow(crop, interpolation="nearest")
    numbers = f"{255 * noise.std():.1f}; neighbors {neighbors:.2f}, colors {colors:.2f}"
    axis.set_title(f"{name}\n{numbers}", fontsize=10)
    axis.axis("off")
plt.tight_layout()
plt.show()
