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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lcdnet_jax/blob/main/notebooks/sfm_frequency.ipynb)
#
# # What stochastic frequency masking does
#
# Stochastic frequency masking (SFM; El Helou, Zhou, Süsstrunk, ECCV 2020) trains a network on
# images that have lost a random band of frequencies. This notebook looks at it from both ends:
# what the masks take, and what networks that were trained with them do to each frequency.
#
# Three small denoisers for gray images are compared, all else equal (`configs/sfm_small.py`):
#
# * `regular` is trained without masking;
# * `sfm` as the paper describes it: half of the images are masked before noise is added, and the
#   target is the clean image;
# * `released` as the authors' released training code has it: images that are not masked are black,
#   and the target is the masked image.
#
# All pictures shown are photographs that come with scikit-image. Environment variables choose what
# it runs on:
#
# | variable | meaning | default |
# |---|---|---|
# | `SFM_FREQUENCY_RUNS` | folder of the trained networks, see below | `runs/sfm_frequency` |
# | `SFM_FREQUENCY_BUDGET` | `short`, or `tiny` to try the machinery | `short` |

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
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.ndimage
from IPython.display import Markdown, display

import input_pipeline
from configs import sfm_small
from lcdnet_jax import Restorer, degradations, metrics, sfm, spectra, training
from lcdnet_jax import config as config_lib
from lcdnet_jax.checkpoints import silence_orbax

silence_orbax()

BUDGETS = {
    "short": {
        "kwargs": {"depth": 8, "features": 24}, "steps": 600, "crop": 64,
        "masks": 4_000, "size": 128, "tiles": None, "bands": 20,
    },
    "tiny": {
        "kwargs": {"depth": 2, "features": 2}, "steps": 2, "crop": 16,
        "masks": 50, "size": 32, "tiles": 3, "bands": 5,
    },
}  # fmt: skip
budget = BUDGETS[os.environ.get("SFM_FREQUENCY_BUDGET", "short")]
runs = pathlib.Path(os.environ.get("SFM_FREQUENCY_RUNS", ROOT / "runs" / "sfm_frequency"))
ARMS = {"regular": "tab:blue", "sfm": "tab:orange", "released": "tab:green"}
MODES = {"targeted": "tab:red", "uniform": "tab:purple", "random": "tab:gray"}

# %% [markdown]
# The photographs of the split `test`, in square tiles: only in squares do equal radii of the
# transform stand for equal frequencies.


# %%
def tiles(image):
    size = budget["size"]
    rows, columns = (side // size for side in image.shape[:2])
    blocks = image[: rows * size, : columns * size].reshape(rows, size, columns, size, -1)
    return blocks.swapaxes(1, 2).reshape(-1, size, size, image.shape[-1])


photos = list(input_pipeline.create_eval_dataset({"source": "photos", "split": "test"}, 1))
clean = np.concatenate([tiles(photo["clean"]) for photo in photos])[: budget["tiles"]]
count, size = clean.shape[:2]
display(Markdown(f"{count} tiles of {size}x{size} pixels from {len(photos)} photographs."))

# %% [markdown]
# ## Masks
#
# Two random masks of each mode. A mask lies over the coefficients of the cosine transform: the mean
# of the image is in the top left corner, the highest frequencies in the bottom right, and what is
# black is set to 0. Beside it the image without these frequencies, and what was taken from it
# (mid-gray is 0, contrast raised).
#
# * `targeted`, the mode for denoising, takes a ring around 0.85 of the largest radius. One has to
#   look twice: a photograph has little there, and only the finest texture goes.
# * `uniform`, the mode for super-resolution, takes a ring anywhere. The lower it begins, the more
#   goes: first texture, then shapes.
# * `random` takes each coefficient with probability 1/2. Where the mean is among them, the image
#   turns black.

# %%
picture = clean[1]
figure, axes = plt.subplots(3, 6, figsize=(12, 6.6), layout="constrained")
for row, mode in zip(axes, MODES, strict=True):
    for place, draw in enumerate((6, 10)):  # of the first few, two that are unlike each other
        mask = sfm.draw_mask(jax.random.key(draw), size, size, mode=mode)
        masked = np.asarray(sfm.apply_mask(picture, mask))
        shown = (
            (f"mask, {1 - float(jnp.mean(mask)):.0%} of coefficients", mask, 0, 1),
            ("image", masked[..., 0], 0, 1),
            ("taken", (picture - masked)[..., 0], -0.1, 0.1),
        )
        for axis, (title, pixels, low, high) in zip(row[3 * place :], shown, strict=False):
            axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_title(title, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
    row[0].set_ylabel(mode)
plt.show()

# %% [markdown]
# ## What masks take
#
# Many masks of the size of a training crop. Left: how often a coefficient is masked, by its
# radius. Right: which share of all coefficients one mask takes, as a distribution function: at x,
# the share of masks that take at most x.
#
# `targeted` leaves the lower third of radii alone and takes almost every coefficient around its
# center; `uniform` is most likely to hit the middle and always leaves the mean. The right panel
# shows how unequal masks are: most `targeted` ones are thin and a few are wide, `uniform` ones take
# anything from nothing to everything, and every `random` one takes half.

# %%
edges = np.linspace(0, 1, budget["bands"] + 1)
edges[0] = 1e-3  # without the mean, which holds nearly all energy of an image
middles = (edges[1:] + edges[:-1]) / 2
crop = budget["crop"]
lines = ["| mode | mean share | median share | mean of the image masked |", "|---|---|---|---|"]
figure, (by_radius, by_share) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for mode, color in MODES.items():
    probability, shares = spectra.mask_coverage(
        jax.random.key(0), crop, crop, count=budget["masks"], mode=mode
    )
    by_radius.plot(middles, spectra.radial_mean(probability, edges=edges), color=color, label=mode)
    by_share.plot(np.sort(shares), (np.arange(len(shares)) + 1) / len(shares), color=color)
    lines.append(
        f"| `{mode}` | {np.mean(shares):.3f} | {np.median(shares):.3f} | {probability[0, 0]:.2f} |"
    )
by_radius.set(xlabel="radius / largest radius", ylabel="probability of being masked", xlim=(0, 1))
by_share.set(xlabel="share of coefficients masked", ylabel="share of masks", xlim=(0, 1))
by_radius.legend()
for axis in (by_radius, by_share):
    axis.grid(alpha=0.3)
plt.show()
display(Markdown("\n".join(lines)))
display(Markdown(f"{budget['masks']} masks of {crop}x{crop} coefficients for each mode."))

# %% [markdown]
# ## Networks
#
# `SFM_FREQUENCY_RUNS` names a folder with working directories of `train.py`: `regular-0`, `sfm-0`
# and `released-0`, and for other seeds `regular-1` and so on. Each seed is used for which all three
# runs are finished:
#
#     python train.py --config configs/sfm_small.py:sfm --workdir DIR/sfm-0 --config.seed=0
#
# Where there is no such seed, seed 0 is trained here, on the other photographs of scikit-image and
# for 600 steps instead of 3,000. That shows how the figures are made; it is too short to judge
# masking by.


# %%
def finished(workdir):
    """The configuration of a run that made all its steps, else None."""
    if not (workdir / "config.json").exists():
        return None
    config = config_lib.load(workdir / "config.json")
    return config if (workdir / "checkpoints" / str(config.steps)).exists() else None


def train_here(arm):
    config = sfm_small.get_config(arm)
    config.network.kwargs = budget["kwargs"]
    for split in ("train", "eval"):
        config.data[split].source, config.data[split].path = "photos", ""
    config.data.crop = budget["crop"]
    config.steps = budget["steps"]
    config.eval.max_images = 1
    config.eval.panels = 0
    with contextlib.redirect_stdout(io.StringIO()):
        training.train_and_evaluate(
            config, runs / f"{arm}-0", datasets=input_pipeline.create_datasets(config)
        )


seeds = [i for i in range(10) if all(finished(runs / f"{arm}-{i}") for arm in ARMS)]
if not seeds:
    seeds = [0]
    for arm in ARMS:
        if not finished(runs / f"{arm}-0"):
            train_here(arm)

networks, restorer = {}, None
for arm in ARMS:
    for seed in seeds:
        trained = Restorer.from_checkpoint(runs / f"{arm}-{seed}")
        # The same compiled program for all.
        restorer = restorer.with_variables(trained.variables) if restorer else trained
        networks[arm, seed] = restorer


def restore(network, images):
    return np.stack([network(image) for image in images])


config = finished(runs / f"regular-{seeds[0]}")
source = config.data.train.path or config.data.train.source
display(
    Markdown(
        f"Seeds {', '.join(map(str, seeds))}; {config.steps} steps of {config.batch_size} crops of "
        f"{config.data.crop} pixels from {pathlib.PurePath(source).name}, sigma "
        f"{config.degradation.sigma_min:g} to {config.degradation.sigma_max:g}."
    )
)

# %% [markdown]
# Their scores on the tiles, in dB, mean over tiles and seeds. The figures below say where in the
# spectrum differences come from.

# %%
SIGMAS = (0, 5, 25)
keys = jax.random.split(jax.random.key(0), count)
noisy, outputs = {}, {}
lines = [
    "| | " + " | ".join(f"sigma {sigma}" for sigma in SIGMAS) + " |",
    "|---" * (len(SIGMAS) + 1) + "|",
]
for sigma in SIGMAS:
    noisy[sigma] = np.asarray(degradations.awgn(keys, clean, sigma=float(sigma)))
for arm in ARMS:
    scores = []
    for sigma in SIGMAS:
        for seed in seeds:
            outputs[arm, seed, sigma] = restore(networks[arm, seed], noisy[sigma])
        psnr = [metrics.psnr(outputs[arm, s, sigma].clip(0, 1), clean).mean() for s in seeds]
        scores.append(f"{np.mean(psnr):.2f}")
    lines.append(f"| `{arm}` | " + " | ".join(scores) + " |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## Spectra
#
# The paper's way to draw a spectrum: the absolute value of the cosine transform, averaged over the
# five lowest frequencies down, over the frequency across. Frequencies here are those of the
# transform, 0.5 cycles per pixel being the fastest change there is; the paper's figures show the
# lower half of them and label it 0 to 0.5.
#
# Photographs fall steeply, white noise is flat, so from some frequency on a noisy image is all
# noise. A denoiser has to come back to the clean curve (black). Look at where it falls below: there
# it gives up detail. The axis ends at 0.71 of the largest radius, because radii beyond belong to
# diagonal patterns, so the center of targeted masks, 0.85, is not on it.

# %%
figure, axes = plt.subplots(
    2, 2, figsize=(11, 6), sharex=True, sharey="row", layout="constrained",
    gridspec_kw={"height_ratios": (3, 2)},
)  # fmt: skip
frequencies, true = spectra.amplitude_spectrum(clean)
for (above, below), sigma in zip(axes.T, SIGMAS[1:], strict=True):
    above.plot(*spectra.amplitude_spectrum(noisy[sigma]), color="0.7", label="noisy")
    below.axhline(1, color="black", linewidth=1)
    for arm, color in ARMS.items():
        every = np.concatenate([outputs[arm, seed, sigma] for seed in seeds])
        _, found = spectra.amplitude_spectrum(every)
        above.plot(frequencies, found, color=color, label=arm)
        below.plot(frequencies, found / true, color=color)
    above.plot(frequencies, true, color="black", linewidth=1, label="clean")
    above.set(yscale="log", title=f"sigma {sigma}", xlim=(0, 0.5))
    below.set(xlabel="cycles per pixel", ylim=(0, 1.5))
for axis, label in zip(axes[:, 0], ("mean |DCT|", "relative to clean"), strict=True):
    axis.set_ylabel(label)
for axis in axes.flat:
    axis.grid(alpha=0.3)
axes[0, 1].legend()
plt.show()

# %% [markdown]
# ## What networks pass
#
# The gain of a network in a band of radii is the factor that best takes the coefficients of its
# input to those of its output: 1 where the band passes, 0 where it is lost. The dashed line is the
# gain of a perfect denoiser, whose output is the clean image: 1 without noise, and lower the more
# noise there is in the band. Below it a network gives up detail, above it lets noise through. The
# dotted line marks the center of targeted masks. Curves are medians over the tiles; thin lines are
# seeds, thick ones their mean.
#
# Look at the right of the first panel, where there is nothing to remove: what is missing to 1 is
# detail that the network takes for noise. If masking teaches a network to restore the frequencies
# that it took, `sfm` lies above `regular` there. If it teaches a network to expect nothing there,
# the masked networks lie below, and `released`, whose target is masked as well, lowest.


# %%
def gain_of(outputs, inputs, edges=edges):
    # The median: in a flat tile a band may hold next to nothing, and its gain is wild.
    return np.median(spectra.response_gain(outputs, inputs, edges=edges), axis=0)


def draw_gains(axis, gains, color, label):
    axis.plot(middles, np.transpose(gains), color=color, linewidth=0.6)
    axis.plot(middles, np.mean(gains, axis=0), color=color, linewidth=2, label=label)


figure, axes = plt.subplots(1, len(SIGMAS), figsize=(12, 3.6), sharey=True, layout="constrained")
for axis, sigma in zip(axes, SIGMAS, strict=True):
    perfect = gain_of(clean, noisy[sigma])
    axis.plot(middles, perfect, "--", color="black", linewidth=1, label="perfect")
    for arm, color in ARMS.items():
        gains = [gain_of(outputs[arm, seed, sigma], noisy[sigma]) for seed in seeds]
        draw_gains(axis, gains, color, arm)
    axis.axvline(0.85, linestyle=":", color="0.5")
    axis.set(xlabel="radius / largest radius", title=f"sigma {sigma}", xlim=(0, 1))
    axis.grid(alpha=0.3)
axes[0].set_ylabel("gain")
axes[0].legend()
plt.show()

# %% [markdown]
# The right end of the first panel in numbers: gain without noise, median over tiles, one value for
# each seed.

# %%
ends = (0.7, 0.85, 1.0)
lines = ["| | radius 0.7 to 0.85 | above 0.85 |", "|---|---|---|"]
for arm in ARMS:
    gains = [gain_of(outputs[arm, seed, 0], clean, ends) for seed in seeds]
    values = [", ".join(f"{gain:.2f}" for gain in band) for band in np.transpose(gains)]
    lines.append(f"| `{arm}` | " + " | ".join(values) + " |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## A hole in the spectrum
#
# Left: what a low-pass filter and what a mask leave of the tiles' spectrum. The filter bends the
# curve down for good; the mask leaves a hole, with the photograph going on behind it. The paper
# finds such holes in the output of super-resolution networks, whose input was filtered with another
# kernel than the one they were trained for; notebooks/sfm_super_resolution makes that experiment.
#
# Right: the same question to the denoisers. Their input has lost the band between the dotted lines,
# where targeted masks are most likely, and has weak noise on it. The curve is the gain from the
# *clean* image to the output: the share of the true content that the output holds. The input
# (dashed) has none in the hole, so a network comes above 0 there only by guessing the band from the
# frequencies around it. The target of `sfm` asks for that guess, the target of `released` for
# leaving the hole as it is.

# %%
SHOWN, HOLE, SIGMA = (0.3, 0.45), (0.7, 0.95), 5


def without_band(images, low, high):
    corner = sfm.max_radius(size, size)
    return np.asarray(
        sfm.apply_mask(images, sfm.band_mask(size, size, low * corner, high * corner))
    )


figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
low_pass = scipy.ndimage.gaussian_filter(clean, (0, 1, 1, 0))
left.plot(*spectra.amplitude_spectrum(clean), color="black", linewidth=1, label="clean")
left.plot(*spectra.amplitude_spectrum(low_pass), color="tab:brown", label="low-pass filter")
hole = spectra.amplitude_spectrum(without_band(clean, *SHOWN))
left.plot(*hole, color="tab:red", label="band masked")
left.set(yscale="log", xlabel="cycles per pixel", ylabel="mean |DCT|", xlim=(0, 0.5))
left.set_ylim(bottom=1e-4)

given = degradations.awgn(keys, without_band(clean, *HOLE), sigma=float(SIGMA))
right.plot(middles, gain_of(given, clean), "--", color="black", linewidth=1, label="input")
for arm, color in ARMS.items():
    gains = [gain_of(restore(networks[arm, seed], given), clean) for seed in seeds]
    draw_gains(right, gains, color, arm)
for end in HOLE:
    right.axvline(end, linestyle=":", color="0.5")
right.set(xlabel="radius / largest radius", ylabel="share of the clean image", xlim=(0, 1))
right.set_title(f"sigma {SIGMA}")
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.legend()
plt.show()

# %% [markdown]
# ## What the stored run says
#
# The networks of the stored run were trained for 3,000 steps on 332 images of BSDS500, three seeds
# each (2026-11-20, about ten minutes of CPU time a run).
#
# * All three lose most of the highest frequencies even of a clean image, and masking makes it more,
#   not less, with every seed: above 0.85 of the largest radius `regular` passes a sixth to a
#   quarter, `sfm` a ninth to a quarter and `released` a seventh at most. An explanation that
#   fits is that in training the masked band of half of the inputs (of all that are not black, for
#   `released`) held noise and nothing else, so that less of what is found there counts as image.
# * `released` passes least nearly everywhere, and scores 2 dB less than `regular` without noise.
#   `sfm` scores 0.4 dB less without noise and the same at sigma 25.
# * None of them fills the hole. All reach a little into its lower end, and `regular`, which has
#   never seen one, as far as `sfm`.
#
# So at this size and length masking towards a clean target does not teach a denoiser to invent the
# masked band; it makes it more careful there. Noise stronger than in training, where the published
# gains are, is in docs/results/sfm.md: there `sfm` and `regular` score the same.
