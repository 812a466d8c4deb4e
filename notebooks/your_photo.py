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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lcdnet_jax/blob/main/notebooks/your_photo.ipynb)
#
# # Restore a photo, before and after
#
# The weights `sadnet-photo` are part of the package. They were trained for the noise of cameras.
# Set `PHOTO` to the path of a photo of yours (on Colab, upload it first). Without one, a
# photograph of scikit-image gets synthetic camera noise.

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
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

from lcdnet_jax import Restorer, degradations, image_io, metrics, visualization

PHOTO = os.environ.get("PHOTO", "")
SIDE = int(os.environ.get("PHOTO_SIDE", "384"))  # pixels that are shown and restored, at most

# %%
if PHOTO:
    noisy = image_io.read(PHOTO)[:SIDE, :SIDE]
    clean = None
else:
    clean = image_io.to_float(skimage.data.coffee()[:SIDE, 100 : 100 + SIDE])
    degrade = functools.partial(degradations.camera_noise, shot=(5e-3, 5e-3), quality=None)
    keys = jax.random.split(jax.random.key(0), 1)
    noisy = image_io.to_uint8(np.asarray(jax.jit(degrade)(keys, clean[None]))[0])
print(noisy.shape, noisy.dtype)

# %% [markdown]
# `restorer(image)` gives an image of the same size and type. The first call compiles.

# %% tags=["thumbnail"]
restorer = Restorer.from_pretrained("sadnet-photo")
restored = restorer(noisy)

before, after = image_io.to_float(noisy), image_io.to_float(restored)
panel = visualization.draw_panel(
    [("before", before), ("after", after)], clean=after if clean is None else clean
)
plt.figure(figsize=(7.5, 6.4))
plt.imshow(panel)
plt.axis("off")
plt.show()
if clean is not None:
    for name, image in (("before", before), ("after", after)):
        print(f"{name}: {float(metrics.psnr(image[None], clean[None])[0]):.2f} dB")

# %% [markdown]
# What was removed should look like noise. Edges and texture in this picture are detail that was
# lost. `strength` keeps part of it: the result is between the image and its restoration.

# %%
removed = np.clip(0.5 + 4 * (before - after), 0, 1)
half = image_io.to_float(restorer.predict(before)) * 0.5 + before * 0.5
figure, axes = plt.subplots(1, 3, figsize=(9, 3.6))
for axis, image, title in zip(
    axes,
    (removed, half, after),
    ("removed, 4 times as strong", "strength 0.5", "strength 1"),
    strict=True,
):
    axis.imshow(np.clip(image, 0, 1))
    axis.set_title(title)
    axis.axis("off")
plt.show()
