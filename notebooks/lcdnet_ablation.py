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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lcdnet_jax/blob/main/notebooks/lcdnet_ablation.ipynb)
#
# # What each part of LCDNet is worth
#
# LCDNet (Gao and Dang, arXiv 2504.10558) adds to a U-net of gated blocks: a multi-scale stage and
# a global Fourier branch in each block (MSSF), a module that weighs low and high frequencies
# (MSFM), gates on skip connections (SCAM), and a loss on Fourier coefficients. Ours is a
# reconstruction (docs/explanations/lcdnet.md), and the paper's own ablation is in no text that we
# had. So these nine rows (`configs/lcdnet_ablation.py`) ask what the parts are worth here: rows (a)
# to (e) add them one by one, rows (f) to (i) exchange one part of the whole network (e).
#
# The task is rain, light and heavy, made on the fly from clean photographs; all rows see the same
# crops in the same rain, and have the preset `tiny`. The budget is far below what such networks are
# trained with: it shows what learns quickly, not what is best in the end.
#
# Environment variables choose what it runs on:
#
# | variable | meaning | default |
# |---|---|---|
# | `ABLATION_BUDGET` | `reduced`, or `tiny` to try the machinery on two rows | `reduced` |
# | `ABLATION_TRAIN` | folder of clean training images | training photographs of scikit-image |
# | `ABLATION_TEST` | folder of clean test images | test photographs of scikit-image |
# | `ABLATION_RUNS` | keeps trained networks, which are not trained again | `runs/lcdnet_ablation` |

# %%
import contextlib
import io
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
from IPython.display import Markdown, display

import input_pipeline
from configs import lcdnet_ablation
from lcdnet_jax import Restorer, protocols, training
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import silence_orbax
from lcdnet_jax.evaluation import DataSet, Evaluator, Setting, sweep

silence_orbax()

BUDGETS = {
    "reduced": {
        "steps": 400,
        "crop": 64,
        "batch": 2,
        "images": 20,
        "rows": tuple("abcdefghi"),
    },
    "tiny": {"steps": 1, "crop": 16, "batch": 1, "images": 1, "rows": ("a", "e")},
}
budget = BUDGETS[os.environ.get("ABLATION_BUDGET", "reduced")]
runs = pathlib.Path(os.environ.get("ABLATION_RUNS", ROOT / "runs" / "lcdnet_ablation"))
folders = {"train": os.environ.get("ABLATION_TRAIN"), "eval": os.environ.get("ABLATION_TEST")}

# %% [markdown]
# ## Training
#
# Each row has a working directory of its own. A run that is finished is left alone, one that was
# interrupted goes on, and one of another configuration is refused.


# %%
def experiment(row):
    config = lcdnet_ablation.get_config(row)
    config.steps = budget["steps"]
    config.batch_size = budget["batch"]
    config.data.crop = budget["crop"]
    config.eval_every = 0
    config.eval.max_images = 1  # the scores below are of all images
    config.eval.panels = 0
    for split, folder in folders.items():
        config.data[split].source = "folder" if folder else "photos"
        config.data[split].path = folder or ""
    return config


config = experiment("e")
display(
    Markdown(
        f"{config.steps} steps of {config.batch_size} crops of {config.data.crop} pixels, one "
        f"seed; rain {config.degradation.options.rain.kind}, learning rate "
        f"{config.optimizer.learning_rate:g} ({config.optimizer.schedule})."
    )
)

# %%
for row in budget["rows"]:
    config = experiment(row)
    workdir = runs / row
    with contextlib.redirect_stdout(io.StringIO()):  # the report is long
        training.train_and_evaluate(
            config, workdir, datasets=input_pipeline.create_datasets(config)
        )
    print(f"({row}): {config.steps} steps")

# %% [markdown]
# ## Scores
#
# Every network restores the same rainy images, the middle of each photograph, so that all are of
# one size: the rain of an image depends on its name alone.


# %%
def middle(image, side=256):
    top, left = (max(0, (size - side) // 2) for size in image.shape[:2])
    return image[top : top + side, left : left + side]


config = experiment("e")
examples = [
    {**example, "clean": middle(example["clean"])}
    for example in list(input_pipeline.create_dataset(config, "eval"))[: budget["images"]]
]
kind, rain = config.degradation.kind, config_lib.create_degradation(config)
protocol = protocols.get(config.degradation.protocol).with_degradation(kind)
restorers = {row: Restorer.from_checkpoint(runs / row) for row in budget["rows"]}
images = DataSet("test", examples, [Setting(protocol)])
summaries = {
    scored.mode: scored.summary for scored in sweep([images], restorers, degradations={kind: rain})
}
sizes = {
    row: sum(leaf.size for leaf in jax.tree.leaves(restorer.variables["params"]))
    for row, restorer in restorers.items()
}

# %%
WHAT = {
    "a": "NAFNet's blocks, plain skip connections", "b": "(a) with MSSF blocks, no global branch",
    "c": "(b) + Fourier branch", "d": "(c) + MSFM", "e": "(d) + SCAM: LCDNet",
    "f": "(e) with SFF for SCAM", "g": "(e) with attention along rows in MSFM",
    "h": "(e) without the Fourier loss", "i": "(e) with the literal chain as global branch",
}  # fmt: skip
lines = [
    "| row | | parameters | PSNR | over the input | over (a) | SSIM |",
    "|---|---|---|---|---|---|---|",
]
for row, summary in summaries.items():
    lines.append(
        f"| {row} | {WHAT[row]} | {sizes[row]:,} | {summary.psnr:.2f} "
        f"| {summary.psnr - summary.input_psnr:+.2f} | {summary.psnr - summaries['a'].psnr:+.2f} "
        f"| {summary.ssim:.4f} |"
    )
display(Markdown("\n".join(lines)))
source = pathlib.Path(folders["eval"] or "scikit-image").name
display(
    Markdown(
        f"The middle 256x256 pixels of {len(examples)} images of {source}, PSNR in dB, "
        f"{protocol.describe()}."
    )
)

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
gains = [summary.psnr - summary.input_psnr for summary in summaries.values()]
axes.barh(range(len(gains)), gains, color="tab:blue")
axes.set_yticks(range(len(gains)), [f"({row})" for row in summaries])
axes.invert_yaxis()
axes.set_xlabel("gain over the rainy image, dB")
axes.grid(axis="x", alpha=0.3)
plt.show()

# %% [markdown]
# ## What the stored run says
#
# It trained on 332 images of BSDS500 and was scored on CBSD68 (2026-11-20, two cores of an AMD
# EPYC, some three minutes of CPU time a row, half of them for compilation). One seed and 400 steps:
# differences of a tenth of a decibel mean nothing.
#
# * The Fourier loss is worth most (h: without it 0.9 dB less). A loss of this weight pulls at many
#   pixels at once, which counts in a short training.
# * MSFM (d over c: 0.3 dB) and SCAM (e over d: 0.2 dB) help, the multi-scale stage by itself (b)
#   does not, and the Fourier branch alone (c) costs 0.1 dB but raises SSIM.
# * The whole network (e) is 0.4 dB above the control (a). With more steps the distance grows: 1 dB
#   after 3000 larger crops (docs/results/lcdnet.md).
# * Of the alternatives, SFF in the place of SCAM (f) is 0.4 dB better in PSNR and worse in SSIM;
#   row attention in MSFM (g) changes nothing; the literal chain (i) is 0.4 dB worse.

# %% [markdown]
# ## Low and high frequencies inside
#
# In each stage MSFM splits features into a low band, by a smoothing filter that it predicts from
# the image, and the rest. Here the last stage of network (e), at full resolution, on a rainy
# photograph: the two channels with the strongest high band in each half (kernels of 3 and of 5).

# %%
photo = next(iter(input_pipeline.create_eval_dataset({"source": "photos", "split": "test"}, 3)))
rainy = Evaluator(protocol, degradation=rain).degrade(middle(photo["clean"]), photo["name"])
restorer = restorers["e"]
_, state = jax.jit(lambda v, x: restorer.module.apply(v, x, mutable="intermediates"))(
    restorer.variables, rainy[None]
)
inside = state["intermediates"]
figure, axes = plt.subplots(2, 5, figsize=(12, 4.4), layout="constrained")
for row, kernel in enumerate(("3x3", "5x5")):
    (bands,) = inside["dec0"]["msfm"][f"bands_{kernel}"]
    low, high = np.asarray(bands[:, 0])
    strongest = np.argsort(-high.std(axis=(0, 1)))[:2]
    axes[row, 0].imshow(np.clip(rainy, 0, 1))
    axes[row, 0].set_title(f"input (kernel {kernel})", fontsize=9)
    for i, channel in enumerate(strongest):
        limit = np.abs(high[..., channel]).max()
        axes[row, 1 + 2 * i].imshow(low[..., channel], cmap="gray")
        axes[row, 1 + 2 * i].set_title(f"low, channel {channel}", fontsize=9)
        axes[row, 2 + 2 * i].imshow(high[..., channel], cmap="RdBu", vmin=-limit, vmax=limit)
        axes[row, 2 + 2 * i].set_title(f"high, channel {channel}", fontsize=9)
for one in axes.flat:
    one.set_axis_off()
plt.show()

# %% [markdown]
# The filters themselves, one for each group of channels, at each scale of the decoder (left: fine).
# A filter that is flat smooths most; one that has all its weight in the middle passes everything as
# low, and leaves no high band. After so short a training they still look like random ones: they
# shift and smooth rather than smooth evenly.

# %%
figure, axes = plt.subplots(4, 9, figsize=(11, 5), layout="constrained")
for scale in range(4):
    (filters,) = inside[f"dec{scale}"]["msfm"]["filters_5x5"]
    axes[scale, 0].text(0, 0.5, f"scale 1/{2**scale}", fontsize=9)
    axes[scale, 0].set_axis_off()
    for group, taps in enumerate(np.asarray(filters[0])):
        axes[scale, group + 1].imshow(taps.reshape(5, 5), cmap="viridis", vmin=0)
        axes[scale, group + 1].set_axis_off()
plt.show()

# %% [markdown]
# ## Gates of the skip connections
#
# SCAM weighs each channel of the encoder against the decoder; the two weights add up to 1. At 0.5
# it is a plain mean, which it has hardly left after this training.

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
weights = [np.asarray(inside[f"scam{scale}"]["gates"][0][0]).ravel() for scale in range(4)]
axes.violinplot(weights, showmedians=True)
axes.axhline(0.5, color="gray", linewidth=0.8)
axes.set_xticks(range(1, 5), [f"scale 1/{2**scale}" for scale in range(4)])
axes.set_ylabel("weight of the encoder")
plt.show()
lines = [
    "| scale | channels | mean weight of the encoder | smallest | largest |",
    "|---|---|---|---|---|",
]
for scale, values in enumerate(weights):
    lines.append(
        f"| 1/{2**scale} | {values.size} | {values.mean():.2f} | {values.min():.2f} "
        f"| {values.max():.2f} |"
    )
display(Markdown("\n".join(lines)))
