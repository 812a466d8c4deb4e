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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lcdnet_jax/blob/main/notebooks/lcdnet_features.ipynb)
#
# # What LCDNet looks at
#
# LCDNet splits features into low and high frequencies by filters that depend on the image (MSFM),
# and gates its skip connections (SCAM). This notebook shows both inside the weights `lcdnet-rain`
# of [checkpoints/](../checkpoints/README.md), on a photograph with synthetic rain. LCDNet here is
# a [reconstruction](../docs/explanations/lcdnet.md).

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

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

from lcdnet_jax import Restorer, degradations, image_io, metrics

SIDE = int(os.environ.get("FEATURES_SIDE", "192"))

# %% tags=["thumbnail"]
restorer = Restorer.from_checkpoint(ROOT / "checkpoints" / "lcdnet-rain.safetensors")
clean = jnp.asarray(image_io.to_float(skimage.data.coffee()[:SIDE, 200 : 200 + SIDE]))[None]
rainy = degradations.rain(jax.random.split(jax.random.key(3), 1), clean, kind="heavy")


def run(variables, x):
    return restorer.module.apply(variables, x, mutable=["intermediates"])


restored, state = jax.jit(run)(restorer.variables, rainy)
found = {}
for path, leaf in jax.tree_util.tree_leaves_with_path(state["intermediates"]):
    name = "/".join(str(part.key) for part in path if hasattr(part, "key"))
    found.setdefault(name, []).append(np.asarray(leaf))

figure, axes = plt.subplots(1, 3, figsize=(12, 4.4))
for axis, image, title in zip(
    axes, (rainy, restored, clean), ("rain", "restored", "clean"), strict=True
):
    score = "" if image is clean else f": {float(metrics.psnr(image, clean)[0]):.1f} dB"
    axis.imshow(np.clip(np.asarray(image[0]), 0, 1))
    axis.set_title(title + score)
    axis.axis("off")
plt.show()

# %% [markdown]
# Heavy rain leaves colored remains. Below are the low and high frequencies in the last stage of the
# decoder, by filters of 3x3 and 5x5 pixels: mean of the absolute values over channels, each picture
# with its own scale of colors. The streaks are wider than the filters, and in both bands.

# %%
bands = {name: values[0] for name, values in found.items() if "bands" in name}
largest = max(value.shape[2] for value in bands.values())
shown = [(name, value) for name, value in bands.items() if value.shape[2] == largest][:2]
figure, axes = plt.subplots(len(shown), 2, figsize=(9, 4.5 * len(shown)), squeeze=False)
for row, (name, (low, high)) in zip(axes, shown, strict=True):
    for axis, band, kind in zip(row, (low, high), ("low", "high"), strict=True):
        axis.imshow(np.abs(band[0]).mean(axis=-1), cmap="magma")
        axis.set_title(f"{kind}: {name}", fontsize=8)
        axis.axis("off")
plt.show()

# %% [markdown]
# Gates of the skip connections: the share of the encoder in each channel, by stage.

# %%
for name, (encoder, decoder) in ((n, v) for n, v in found.items() if "gates" in n):
    share = encoder / (encoder + decoder)
    print(f"{name}: {share.mean():.2f} of the encoder, {share.min():.2f} to {share.max():.2f}")
