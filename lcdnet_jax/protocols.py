"""What exactly a score means: named evaluation protocols.

A PSNR without its protocol is not reproducible: whether noise was clipped, whether the output
was rounded, which border was cut and which channels were compared each move it by tenths of a
decibel or more. Every score of this library is printed beside one of these.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax import Array

from lcdnet_jax import metrics
from lcdnet_jax.data_sets import DATA_SETS
from lcdnet_jax.degradations import NOISE_PROTOCOLS, SPECTRA
from lcdnet_jax.metrics import lpips as lpips_lib

# Luma of BT.601 in studio range, the Y of super-resolution and deraining papers: R, G, B, offset.
_Y_WEIGHTS = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_Y_OFFSET = 16 / 255

_SSIM = {"gaussian": metrics.ssim, "3d": metrics.ssim_3d, "uniform": metrics.ssim_uniform}
_SSIM_DESCRIPTIONS = {
    "gaussian": "",
    "3d": "SSIM with windows over height, width and channels; ",
    "uniform": "SSIM with uniform 7x7 windows; ",
}


@dataclass(frozen=True)
class Protocol:
    """How a restored image is scored. The score of a data set is the mean over its images.

    Attributes:
        name: What tables call it.
        noise: What of synthetic degradation the network sees, see ``degradations.apply_protocol``;
            None where degraded images come from disk.
        degradation: What is done to clean images instead of adding noise, a kind of
            ``degradations.from_kind``; None for noise.
        spectrum: How synthetic noise is filtered, see ``degradations.shape_noise``.
        spread: Its level rises by twice this from the first column to the last, with the given
            level in the middle, see ``degradations.varying_sigma``; 8-bit units.
        rounded: The output is rounded to 256 levels after the clip, as a saved PNG would be.
        border: Pixels cut off each side before scoring.
        luma: Scores are taken on the Y channel of BT.601 instead of RGB. Grey images are scored as
            they are; their PSNR is 1.3 dB lower than that of Y, whose range is smaller.
        luma_rounded: That channel is rounded to 256 levels, of output and ground truth alike, as
            ``rgb2ycbcr`` of MATLAB does for 8-bit images.
        multiple: Sides are cut, at the bottom and right, to multiples of this before the network
            sees the image.
        scale: Of super-resolution, how many times larger a side becomes: clean images are cut, at
            the bottom and right, to multiples of it before they are degraded, and of it times
            ``multiple`` before they are restored. For the score of the input, small images are
            enlarged by ``degradations.bicubic``.
        shaved: ``with_scale`` sets ``border`` to the scale.
        ssim: Which one: "gaussian" is ``metrics.ssim``, "3d" ``metrics.ssim_3d``, "uniform"
            ``metrics.ssim_uniform``.
        aligned: The output, clipped and rounded, is brought to the brightness and the place of
            the ground truth by ``registration.align``, and scored where it covers it; both images
            are 0 elsewhere, which windows of SSIM see.
        mae: The mean absolute error is a further score.
        lpips: LPIPS is a further score where its package is installed, see ``metrics.lpips``. It
            compares the clipped output without the border, in RGB even with ``luma``.
    """

    name: str
    noise: str | None = "float"
    degradation: str | None = None
    spectrum: str = "white"
    spread: float = 0.0
    rounded: bool = False
    border: int = 0
    luma: bool = False
    luma_rounded: bool = False
    multiple: int = 1
    scale: int = 1
    shaved: bool = False
    ssim: str = "gaussian"
    aligned: bool = False
    mae: bool = False
    lpips: bool = False

    def describe(self) -> str:
        """One line to print beside scores."""
        seen = {
            "float": "unclipped float noise",
            "clipped": "noise clipped to [0, 1]",
            "8bit": "noise clipped and rounded to 8 bits",
            None: "degraded images from disk",
        }[self.noise]
        if self.degradation is not None:
            stored = {"float": "unclipped", "clipped": "clipped", "8bit": "rounded to 8 bits"}
            seen = f"synthetic {self.degradation}, {stored[self.noise or 'float']}"
        if self.spectrum != "white":
            seen = f"{seen} ({self.spectrum})"
        if self.spread:
            seen = f"{seen}, level from -{self.spread:g} to +{self.spread:g} over the columns"
        rounded = " and rounded to 8 bits" if self.rounded else ""
        multiple = self.multiple * self.scale
        cut = f"sides cut to multiples of {multiple}; " if multiple > 1 else ""
        aligned = "aligned to the ground truth (intensity, homography by ECC) and scored inside; "
        channels = "Y of BT.601" if self.luma else "all channels"
        if self.luma and self.luma_rounded:
            channels += " rounded to 8 bits"
        further = "MAE; " if self.mae else ""
        if self.lpips:
            further += "LPIPS (AlexNet); " if lpips_lib.available() else "LPIPS not installed; "
        enlarged = "; input scored as enlarged by bicubic interpolation" if self.scale > 1 else ""
        return (
            f"{self.name}: {seen}; {cut}output clipped to [0, 1]{rounded}; "
            f"{aligned if self.aligned else ''}border {self.border}; {channels}; "
            f"{_SSIM_DESCRIPTIONS[self.ssim]}{further}mean of per-image scores{enlarged}"
        )

    def with_noise(self, *, spectrum: str = "white", spread: float = 0.0) -> "Protocol":
        """The same for other noise, which its name then tells; see the attributes.

        Raises:
            ValueError: For an unknown spectrum, or pairs, which bring their own noise.
        """
        if spectrum not in SPECTRA:
            raise ValueError(f"no noise spectrum {spectrum!r}; use one of {', '.join(SPECTRA)}")
        if spectrum == "white" and spread == 0:
            return self
        if self.noise is None:
            raise ValueError(f"protocol {self.name!r} adds no noise; leave spectrum and spread off")
        name = self.name + (f"-{spectrum}" if spectrum != "white" else "")
        name += f"-varying{spread:g}" if spread else ""
        return replace(self, name=name, spectrum=spectrum, spread=spread)

    def with_degradation(self, kind: str, *, label: str | None = None) -> "Protocol":
        """The same for another degradation than noise, which its name then tells.

        Args:
            kind: What ``describe`` calls it.
            label: What the name has; None for ``kind``.

        Raises:
            ValueError: For pairs, which are degraded already.
        """
        if self.noise is None:
            raise ValueError(f"protocol {self.name!r} degrades nothing; use float, clipped or 8bit")
        return replace(self, name=f"{label or kind}-{self.name}", degradation=kind)

    def with_scale(self, scale: int) -> "Protocol":
        """The same for super-resolution by a whole factor, which its name then tells.

        Args:
            scale: The factor; 1 where nothing is enlarged, which changes nothing.

        Raises:
            ValueError: If there is no factor, but the border is to be as wide.
        """
        if scale == 1 and self.shaved:
            raise ValueError(
                f"protocol {self.name!r} cuts a border as wide as images are enlarged, but here "
                "none is; use another, with a border of its own (eval.py: --luma --border)"
            )
        if scale == 1:
            return self
        border = scale if self.shaved else self.border
        return replace(self, name=f"{self.name}-x{scale}", scale=scale, border=border)

    def with_cut(self, *, border: int = 0, luma: bool = False) -> "Protocol":
        """The same for a part of pixels and channels, which its name then tells.

        Args:
            border: See the attributes; 0 leaves it as it is.
            luma: See the attributes; False leaves it as it is.
        """
        suffix = "-y" if luma and not self.luma else ""
        suffix += f"-border{border}" if border else ""
        return replace(
            self,
            name=self.name + suffix,
            border=border or self.border,
            luma=luma or self.luma,
        )

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of an image ``[H, W, C]`` that is restored and scored.

        Raises:
            ValueError: If nothing is left to score.
        """
        multiple = self.multiple * self.scale
        height, width = (side - side % multiple for side in image.shape[:2])
        if min(height, width) <= 2 * self.border:
            raise ValueError(
                f"protocol {self.name!r} (sides cut to multiples of {multiple} pixels, border "
                f"{self.border}) leaves nothing of {image.shape[0]}x{image.shape[1]} pixels; use "
                "another protocol or a smaller border"
            )
        return image[:height, :width]

    def stored(self, restored: Array) -> Array:
        """Network output as it is compared: clipped, and rounded where the protocol says so."""
        restored = jnp.clip(restored, 0, 1)
        return jnp.round(restored * 255) / 255 if self.rounded else restored

    def score(
        self, restored: Array, clean: Array, sizes: Array, mask: Array | None = None
    ) -> dict[str, Array]:
        """Scores images that were padded at the bottom and right to a common shape.

        Args:
            restored: ``[N, H, W, C]`` network output; where the protocol aligns, what
                ``registration.align`` made of ``stored(output)``.
            clean: ``[N, H, W, C]`` in [0, 1].
            sizes: ``[N, 2]`` true heights and widths.
            mask: ``[N, H, W, 1]`` bool, the pixels that count; where the protocol aligns only.

        Returns:
            ``{"psnr": [N], "ssim": [N]}``, and "mae" where the protocol has it.

        Raises:
            ValueError: If there is a mask without alignment or alignment without a mask.
        """
        if self.aligned != (mask is not None):
            raise ValueError(
                f"protocol {self.name!r} "
                + ("needs images from alignment.align and their mask" if self.aligned
                   else "aligns nothing; leave the mask off")
            )  # fmt: skip
        if mask is None:
            restored = self.stored(restored)
        if self.luma and clean.shape[-1] == 3:
            restored, clean = _luma(restored), _luma(clean)
            if self.luma_rounded:
                restored, clean = (jnp.round(a * 255) / 255 for a in (restored, clean))
        if mask is not None:
            restored, clean = (jnp.where(mask, a, 0) for a in (restored, clean))
        if self.border:
            cut = (slice(None), slice(self.border, None), slice(self.border, None))
            restored, clean = restored[cut], clean[cut]
            mask = None if mask is None else mask[cut]
            sizes = sizes - 2 * self.border
        scores = {
            "psnr": metrics.psnr(restored, clean, sizes=sizes, mask=mask),
            "ssim": _SSIM[self.ssim](restored, clean, sizes=sizes, mask=mask),
        }
        if self.mae:
            scores["mae"] = metrics.mae(restored, clean, sizes=sizes, mask=mask)
        return scores


def _luma(x: Array) -> Array:
    weights = jnp.asarray(_Y_WEIGHTS, x.dtype).reshape(1, 1, 1, 3)
    return (x * weights).sum(-1, keepdims=True) + _Y_OFFSET


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        *(Protocol(name, noise=name, rounded=name == "8bit") for name in NOISE_PROTOCOLS),
        Protocol("pairs", noise=None),
        # The evaluation of SADNet's code: noisy images are 8-bit files, outputs are not rounded.
        Protocol("sadnet", noise="8bit", multiple=8, ssim="3d"),
        Protocol("sadnet-pairs", noise=None, multiple=8, ssim="3d"),
        # GoPro, HIDE, REDS: MATLAB's psnr and ssim of saved PNG files (MPRNet, Restormer), and the
        # SSIM of NAFNet's code.
        Protocol("gopro", noise=None, rounded=True, ssim="3d"),
        # Rain100, Test100 and so on: MATLAB's rgb2ycbcr of saved PNG files (MPRNet, Restormer).
        Protocol("rain", noise=None, rounded=True, luma=True, luma_rounded=True),
        # Super-resolution: 8-bit files, Y without rounding as in BasicSR, a border as wide as the
        # scale, which with_scale fills in.
        Protocol("sr", noise="8bit", rounded=True, luma=True, shaved=True),
        Protocol("sr-pairs", noise=None, rounded=True, luma=True, shaved=True),
        # The evaluation of Abuolaim and Brown, ECCV 2020, with LPIPS as in Restormer's.
        Protocol("dpdd", noise=None, ssim="uniform", mae=True, lpips=True),
        Protocol("realblur", noise=None, rounded=True, aligned=True),
    )
}


# Protocols for clean images, and those that mean the same for pairs.
_PAIRED = {"sadnet": "sadnet-pairs", "sr": "sr-pairs"}


def get(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: For an unknown name, listing the known ones.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; known protocols: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def of_training(
    kind: str, *, protocol: str, spectrum: str, source: str, scale: int = 1
) -> list[Protocol]:
    """The protocols of the evaluations during a training, mostly one.

    Args:
        kind: ``config.degradation.kind``: "awgn", another of ``degradations.from_kind``, or "none"
            for pairs.
        protocol: Name of the protocol where images are degraded, or several joined by commas.
        spectrum: Of noise.
        source: ``config.data.eval.source``, where the images are pairs.
        scale: Of super-resolution, 1 for all else.

    Returns:
        Of pairs that of the benchmark, but for what may fail and so end a training: LPIPS and
        alignment.

    Raises:
        ValueError: For an unknown protocol or spectrum.
    """
    if kind == "none":
        pairs = get(for_source(source)).with_scale(scale)
        return [get("pairs") if pairs.aligned else replace(pairs, lpips=False)]
    chosen = [get(name).with_scale(scale) for name in protocol.split(",")]
    if kind == "awgn":
        return [one.with_noise(spectrum=spectrum) for one in chosen]
    return [one.with_degradation(kind) for one in chosen]


def for_source(source: str) -> str:
    """Name of the protocol under which papers score the pairs of a data set.

    Args:
        source: As in ``config.data.eval.source``, such as "gopro", or several joined by commas.

    Returns:
        ``DataSet.protocol`` of its row in :mod:`lcdnet_jax.data_sets`; "pairs" if it has no row,
        or for several data sets that have different protocols.
    """
    rows = [DATA_SETS.get(name.strip()) for name in source.split(",")]
    names = {row.protocol if row else "pairs" for row in rows}
    return names.pop() if len(names) == 1 else "pairs"


def for_pairs(name: str, default: str) -> str:
    """Name of the protocol that means for pairs what another means for clean images.

    Args:
        name: The protocol for clean images.
        default: The result where there is none.
    """
    return _PAIRED.get(name, default)
