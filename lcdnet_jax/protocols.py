"""Named evaluation protocols: how images are degraded and how scores are computed.

A PSNR without its protocol is not reproducible. Clipping of the noise, rounding of the output, the
border that is cut and the channels that are compared each change it by tenths of a decibel or
more. So the library prints a protocol beside every score.
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
        name: Name in tables.
        noise: Noise protocol of synthetic degradation, see ``degradations.apply_protocol``:
            "float", "clipped" or "8bit". None if degraded images come from disk.
        degradation: Degradation of clean images other than noise, a kind of
            ``degradations.from_kind``. None for noise.
        spectrum: Filter of synthetic noise, see ``degradations.shape_noise``.
        spread: The noise level rises by twice this from the first column to the last, and has its
            nominal value in the middle, see ``degradations.varying_sigma``; 8-bit units.
        rounded: The output is clipped, then rounded to 256 levels, as in a saved PNG.
        border: Pixels cut off each side before scoring.
        luma: Scores are computed on the Y channel of BT.601 instead of RGB. Gray images are scored
            unchanged; their PSNR is 1.3 dB lower than that of Y, whose range is smaller.
        luma_rounded: The Y channel of output and ground truth is rounded to 256 levels, as
            ``rgb2ycbcr`` of MATLAB does for 8-bit images.
        multiple: Sides are cut, at the bottom and right, to multiples of this before the network
            sees the image.
        scale: Factor of super-resolution by which sides grow. Clean images are cut, at the bottom
            and right, to multiples of it before they are degraded, and to multiples of it times
            ``multiple`` before they are restored. For the score of the input, small images are
            enlarged by ``degradations.bicubic``.
        shaved: ``with_scale`` sets ``border`` to the scale.
        ssim: Variant of SSIM: "gaussian" is ``metrics.ssim``, "3d" ``metrics.ssim_3d``, "uniform"
            ``metrics.ssim_uniform``.
        aligned: ``registration.align`` matches the brightness and the position of the output, which
            is clipped and rounded, to the ground truth. Pixels that the aligned output covers are
            scored. Both images are 0 elsewhere, and SSIM windows include these zeros.
        mae: Adds the mean absolute error as a score.
        lpips: Adds LPIPS as a score if its package is installed, see ``metrics.lpips``. LPIPS
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
        """Describes the protocol.

        Returns:
            One line to print beside scores.
        """
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
        """Replaces the noise, and adds the change to the name.

        Args:
            spectrum: See the attributes; one of ``degradations.SPECTRA``.
            spread: See the attributes; 8-bit units, at least 0.

        Returns:
            The new protocol.

        Raises:
            ValueError: For an unknown spectrum, or a protocol for pairs, which adds no noise.
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
        """Replaces noise by another degradation, and adds it to the name.

        Args:
            kind: The degradation, as in :meth:`describe`.
            label: The degradation, as in the name; None for ``kind``.

        Returns:
            The new protocol.

        Raises:
            ValueError: For a protocol for pairs, which are degraded already.
        """
        if self.noise is None:
            raise ValueError(f"protocol {self.name!r} degrades nothing; use float, clipped or 8bit")
        return replace(self, name=f"{label or kind}-{self.name}", degradation=kind)

    def with_scale(self, scale: int) -> "Protocol":
        """Sets the factor of super-resolution, and adds it to the name.

        Args:
            scale: The factor, an integer of at least 1. 1 changes nothing.

        Returns:
            The new protocol.

        Raises:
            ValueError: For a scale of 1 if the border must be as wide as the scale.
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
        """Sets border and luma, and adds them to the name.

        Args:
            border: See the attributes; pixels. 0 changes nothing.
            luma: See the attributes. False changes nothing.

        Returns:
            The new protocol.
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
        """Cuts sides to the multiples that the protocol requires.

        Args:
            image: ``[H, W, C]``.

        Returns:
            The part of the image that is restored and scored, cut at the bottom and right.

        Raises:
            ValueError: If nothing is left to score.
        """
        multiple = self.multiple * self.scale
        height, width = (side - side % multiple for side in image.shape[:2])
        if min(height, width) <= 2 * self.border:
            raise ValueError(
                f"protocol {self.name!r} (sides cut to multiples of {multiple}, border "
                f"{self.border}) leaves nothing of {image.shape[0]}x{image.shape[1]} pixels; use "
                "another protocol or a smaller border"
            )
        return image[:height, :width]

    def clip_and_round(self, restored: Array) -> Array:
        """Clips network output, and rounds it if the protocol does, as a saved file would hold it.

        Args:
            restored: ``[..., H, W, C]`` network output.

        Returns:
            The same shape, in [0, 1].
        """
        restored = jnp.clip(restored, 0, 1)
        return jnp.round(restored * 255) / 255 if self.rounded else restored

    def score(
        self, restored: Array, clean: Array, sizes: Array, mask: Array | None = None
    ) -> dict[str, Array]:
        """Scores images that were padded at the bottom and right to a common shape.

        Args:
            restored: ``[N, H, W, C]`` network output. If the protocol aligns, the result of
                ``registration.align`` for ``stored(output)``.
            clean: ``[N, H, W, C]`` in [0, 1].
            sizes: ``[N, 2]`` true heights and widths, pixels.
            mask: ``[N, H, W, 1]`` bool, the pixels that are scored. Required if the protocol
                aligns, None otherwise.

        Returns:
            ``{"psnr": [N], "ssim": [N]}``, PSNR in dB, and "mae" if the protocol has it.

        Raises:
            ValueError: If there is a mask without alignment or alignment without a mask.
        """
        if self.aligned != (mask is not None):
            raise ValueError(
                f"protocol {self.name!r} "
                + ("needs images from registration.align and their mask" if self.aligned
                   else "aligns nothing; leave the mask off")
            )  # fmt: skip
        if mask is None:
            restored = self.clip_and_round(restored)
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


#: Name -> protocol. docs/explanations/protocols.md explains them.
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
        # Validation blocks of SIDD: MATLAB's psnr and ssim of blocks that were not rounded (MPRNet,
        # Restormer).
        Protocol("sidd", noise=None, ssim="3d"),
        # Rain100, Test100 and so on: MATLAB's rgb2ycbcr of saved PNG files (MPRNet, Restormer).
        Protocol("rain", noise=None, rounded=True, luma=True, luma_rounded=True),
        # Super-resolution: 8-bit files, Y without rounding as in BasicSR, a border as wide as the
        # scale, which with_scale sets.
        Protocol("sr", noise="8bit", rounded=True, luma=True, shaved=True),
        Protocol("sr-pairs", noise=None, rounded=True, luma=True, shaved=True),
        # The evaluation of Abuolaim and Brown, ECCV 2020, with LPIPS as in Restormer's.
        Protocol("dpdd", noise=None, ssim="uniform", mae=True, lpips=True),
        Protocol("realblur", noise=None, rounded=True, aligned=True),
    )
}


# Protocols for clean images, and the corresponding ones for pairs.
_PAIRED = {"sadnet": "sadnet-pairs", "sr": "sr-pairs"}


def get(name: str) -> Protocol:
    """Finds a protocol by name.

    Args:
        name: A key of ``PROTOCOLS``.

    Returns:
        The protocol.

    Raises:
        ValueError: For an unknown name, listing the known ones.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; known protocols: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def of_training(
    kind: str, *, protocol: str, spectrum: str, source: str, scale: int = 1
) -> list[Protocol]:
    """Chooses the protocols of the evaluations during a training run, mostly one.

    Args:
        kind: ``config.degradation.kind``: "awgn", another of ``degradations.from_kind``, or "none"
            for pairs.
        protocol: Name of the protocol if clean images are degraded, or several joined by commas.
        spectrum: Filter of the noise, one of ``degradations.SPECTRA``.
        source: ``config.data.eval.source``; it decides the protocol of pairs.
        scale: Factor of super-resolution, 1 without.

    Returns:
        The protocols. For pairs it is the protocol of the benchmark, without LPIPS and alignment:
        these may fail and so end the training run.

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
    """Names the protocol under which papers score the pairs of a data set.

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
    """Names the protocol for pairs that corresponds to a protocol for clean images.

    Args:
        name: Name of the protocol for clean images.
        default: Result if no protocol corresponds.

    Returns:
        The name of the protocol for pairs.
    """
    return _PAIRED.get(name, default)
