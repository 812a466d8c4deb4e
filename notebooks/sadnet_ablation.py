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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lcdnet_jax/blob/main/notebooks/sadnet_ablation.ipynb)
#
# # What each part of SADNet is worth
#
# Table 1 of the paper (Chang et al., ECCV 2020) takes SADNet apart in six rows: with and without
# the blocks that sample adaptively (RSAB), the transfer of offsets from coarse to fine scales, and
# the context block. The paper trains each row for some 900,000 steps on DIV2K and reports the
# PSNR on Kodak24 in color at sigma 50.
#
# Here the same six networks are trained at a much smaller budget, so that all of them fit into
# half an hour on two CPU cores: the preset `small`, few steps, several seeds. The question is
# whether the order of the rows already shows, and which differences are larger than those
# between seeds. For the paper's own budget there is `configs/sadnet_ablation.py`, one row at a
# time.
#
# Environment variables choose what it runs on:
#
# | variable | meaning | default |
# |---|---|---|
# | `ABLATION_BUDGET` | `reduced`, or `tiny` to try the machinery on two rows | `reduced` |
# | `ABLATION_TRAIN` | folder of clean training images | training photographs of scikit-image |
# | `ABLATION_TEST` | folder of clean test images | test photographs of scikit-image |
# | `ABLATION_RUNS` | keeps the trained networks; they are not trained again | `runs/ablation` |

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

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from PIL import Image

import input_pipeline
from configs import sadnet_ablation, sadnet_quickstart
from lcdnet_jax import Restorer, protocols, training, visualization
from lcdnet_jax.checkpoints import silence_orbax
from lcdnet_jax.evaluation import DataSet, Evaluator, Setting, sweep

silence_orbax()

BUDGETS = {
    "reduced": {
        "kwargs": {"preset": "small"}, "steps": 2_000, "crop": 64, "seeds": (0, 1, 2),
        "rows": tuple(sadnet_ablation.ROWS),
    },
    "tiny": {
        "kwargs": {"width": 2, "offset_width": 2, "groups": 1}, "steps": 2, "crop": 16,
        "seeds": (0,), "rows": ("none", "full"),
    },
}  # fmt: skip
budget = BUDGETS[os.environ.get("ABLATION_BUDGET", "reduced")]
runs = pathlib.Path(os.environ.get("ABLATION_RUNS", ROOT / "runs" / "ablation"))
folders = {"train": os.environ.get("ABLATION_TRAIN"), "eval": os.environ.get("ABLATION_TEST")}

# %% [markdown]
# ## The six networks
#
# One row's experiment is the recipe of `make quickstart` with that row's switches.


# %%
def experiment(row, seed):
    config = sadnet_quickstart.get_config()
    switches = sadnet_ablation.get_config(row).network.kwargs.to_dict()
    config.network.kwargs = {**switches, **budget["kwargs"]}
    if "preset" not in budget["kwargs"]:
        del config.network.kwargs.preset
    config.seed = seed
    config.steps = budget["steps"]
    config.data.crop = budget["crop"]
    config.eval_every = 0
    config.eval.max_images = 1  # the scores below are of all images
    config.eval.panels = 0
    for split, folder in folders.items():
        if folder:
            config.data[split].source, config.data[split].path = "folder", folder
    return config


config = experiment("full", 0)
display(
    Markdown(
        f"{config.steps} steps of {config.batch_size} crops of {config.data.crop} pixels, "
        f"{len(budget['seeds'])} seeds, sigma {config.degradation.sigma_max:g}, noise "
        f"`{config.degradation.protocol}`, learning rate {config.optimizer.learning_rate:g} "
        f"({config.optimizer.schedule})."
    )
)

# %% [markdown]
# ## Training
#
# Each run has a working directory of its own. A run that is finished is left alone, one that was
# interrupted goes on, and one of another configuration is refused.

# %%
for seed in budget["seeds"]:
    for row in budget["rows"]:
        config = experiment(row, seed)
        workdir = runs / f"{row}_{seed}"
        finished = (workdir / "checkpoints" / str(config.steps)).exists()
        # Of a finished run only the configuration is checked, which needs no report.
        quiet = contextlib.redirect_stdout(io.StringIO()) if finished else contextlib.nullcontext()
        with quiet:
            training.train_and_evaluate(
                config, workdir, datasets=input_pipeline.create_datasets(config)
            )
        print(f"{row}, seed {seed}: {config.steps} steps")

# %% [markdown]
# ## Scores
#
# Every network restores the same noisy images: the noise of an image depends on its name alone.

# %%
config = experiment("full", 0)
images = input_pipeline.create_dataset(config, "eval")
examples = list(images)
protocol = protocols.get(config.degradation.protocol)
test = DataSet("test", examples, [Setting(protocol, config.degradation.sigma_max)])


def scores(row):
    restorers, restorer = {}, None
    for seed in budget["seeds"]:
        trained = Restorer.from_checkpoint(runs / f"{row}_{seed}")
        # The same compiled program for all seeds.
        restorer = restorer.with_variables(trained.variables) if restorer else trained
        restorers[f"seed {seed}"] = restorer
    return [scored.summary.psnr for scored in sweep([test], restorers)]


psnr = {row: scores(row) for row in budget["rows"]}

# %%
PAPER = {
    "none": 29.05, "rsab": 29.55, "context": 29.12,
    "rsab_context": 29.60, "rsab_transfer": 29.59, "full": 29.64,
}  # fmt: skip
lines = [
    "| RSAB | transfer | context | PSNR here: mean | per seed | over row 1 | paper | over row 1 |",
    "|---|---|---|---|---|---|---|---|",
]
for row in budget["rows"]:
    marks = " | ".join("x" if switch else "" for switch in sadnet_ablation.ROWS[row])
    mean, base = np.mean(psnr[row]), np.mean(psnr["none"])
    seeds = ", ".join(f"{value:.2f}" for value in psnr[row])
    lines.append(
        f"| {marks} | {mean:.2f} | {seeds} | {mean - base:+.2f} | {PAPER[row]:.2f} "
        f"| {PAPER[row] - PAPER['none']:+.2f} |"
    )
display(Markdown("\n".join(lines)))
source = pathlib.Path(folders["eval"] or "scikit-image").name
display(Markdown(f"{len(examples)} images of {source}, PSNR in dB, {protocol.describe()}."))

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for i, row in enumerate(budget["rows"]):
    gains = np.array(psnr[row]) - np.mean(psnr["none"])
    axes.plot(
        gains, [i] * len(gains), "o", color="tab:blue", label="here, per seed" if not i else ""
    )
    axes.plot(
        PAPER[row] - PAPER["none"], i, "D", color="tab:orange", label="paper" if not i else ""
    )
axes.set_yticks(range(len(budget["rows"])), budget["rows"])
axes.invert_yaxis()
axes.set_xlabel("gain over row 1, dB")
axes.grid(axis="x", alpha=0.3)
axes.legend()
plt.show()

# %% [markdown]
# ## What the stored run says
#
# It trained on 332 images of BSDS500 and was scored on Kodak24 (2026-11-20, two cores of an AMD
# EPYC, half an hour beside other work). Read each seed by itself before the means: 7 of the 18 runs
# end on a plateau between 25.5 and 26.2 dB, which at this learning rate and length is a matter of
# luck, and the other 11 above 27. A mean of three seeds says mostly how many were stuck.
#
# * Of the runs that left the plateau, those with RSAB reach 27.6 to 27.9, those without 27.2: a
#   gain of about 0.5 dB, as in the paper. All six runs with RSAB and without transfer got there,
#   two of six without RSAB did.
# * The context block changes nothing here (at most 0.03 dB at equal seeds, among runs that left
#   the plateau); in the paper it is worth 0.05 to 0.07 dB.
# * The transfer of offsets does not show its 0.04 dB. Three of its six runs were stuck, and the
#   others are within 0.1 dB of the runs without it.
#
# So this budget can tell RSAB from residual blocks, and nothing finer.

# %% [markdown]
# ## Where it samples
#
# The full network on a noisy photograph, as in figure 4 of the paper: for a few pixels, where each
# scale looks (dots; the color is the modulation) instead of at the regular 3x3 grid.

# %%
photo = next(iter(input_pipeline.create_eval_dataset({"source": "photos", "split": "test"}, 3)))
sigma = config.degradation.sigma_max
noisy = Evaluator(protocol).degrade(photo["clean"], photo["name"], sigma=sigma)
restorer = Restorer.from_checkpoint(runs / f"full_{budget['seeds'][0]}")
sampling = restorer.module.sampling(restorer.variables, noisy[None])
picture = visualization.draw_sampling(
    noisy, sampling, points=visualization.choose_points(photo["clean"])
)
display(Image.fromarray(picture))

# %% [markdown]
# How far the samples lie from the regular grid, in pixels of the photograph, and how much they
# count, by scale:

# %%
lines = ["| scale | median shift | 90 % below | mean modulation |", "|---|---|---|---|"]
taps = np.stack(np.divmod(np.arange(9), 3), axis=-1) - 1
for size, (positions, modulation) in sampling.items():
    rows_, columns = np.indices(positions.shape[1:3])
    grid = np.stack([rows_, columns], axis=-1)[None, :, :, None, None] + taps
    shift = np.linalg.norm(positions - grid, axis=-1) * size
    lines.append(
        f"| 1/{size} | {np.median(shift):.2f} | {np.quantile(shift, 0.9):.2f} "
        f"| {np.mean(modulation):.2f} |"
    )
display(Markdown("\n".join(lines)))
