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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lcdnet_jax/blob/main/notebooks/sadnet_sampling.ipynb)
#
# # Where SADNet samples
#
# The deformable convolutions of SADNet read each feature at learned positions around a pixel, at
# four scales (figure 4 of the paper). This notebook draws them for the pretrained weights
# `sadnet-photo` on a photograph with synthetic noise: hollow squares are the regular grid, dots
# the learned positions, colored by their modulation.

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
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

from lcdnet_jax import Restorer, degradations, image_io, visualization

SIDE = int(os.environ.get("SAMPLING_SIDE", "192"))

# %%
restorer = Restorer.from_pretrained("sadnet-photo")
clean = image_io.to_float(skimage.data.chelsea()[60 : 60 + SIDE, 120 : 120 + SIDE])
keys = jax.random.split(jax.random.key(0), 1)
noisy = np.asarray(degradations.awgn(keys, clean[None], sigma=15.0))

sampling = restorer.module.sampling(restorer.variables, noisy)
points = visualization.choose_points(clean)
panel = visualization.draw_sampling(clean, sampling, points=points)
plt.figure(figsize=(12, 9))
plt.imshow(panel)
plt.axis("off")
plt.show()

# %% [markdown]
# The mean distance between the learned positions and the regular grid, in pixels of the photograph,
# by scale. Scale 8 is the coarsest.

# %%
for scale, (positions, modulation) in sorted(sampling.items()):
    rows, columns = np.mgrid[: positions.shape[1], : positions.shape[2]]
    taps = np.stack(np.divmod(np.arange(9), 3), axis=-1) - 1
    grid = np.stack([rows, columns], axis=-1)[:, :, None, None] + taps
    distance = np.linalg.norm(np.asarray(positions)[0] - grid, axis=-1).mean() * scale
    print(f"scale {scale}: {distance:.1f} pixels, mean modulation {np.mean(modulation):.2f}")
