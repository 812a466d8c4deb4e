"""Running a network on images, whole or in windows."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from lcdnet_jax import image_io
from lcdnet_jax.inference import self_ensemble
from lcdnet_jax.inference.padding import pad_to_bucket
from lcdnet_jax.inference.picture import convert_dtype
from lcdnet_jax.inference.program import PlacedVariables, Program
from lcdnet_jax.inference.tiled import restore_tiled
from lcdnet_jax.inference.window_layout import WindowLayout


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Runs a network on images: matches channels, averages orientations, and fills calls.

    Attributes:
        layout: The windows, with the network.
        program: The compiled programs of the network.
        variables: Its variables.
        ensemble, on_compile: As for :class:`~lcdnet_jax.inference.Restorer`.
    """

    layout: WindowLayout
    program: Program
    variables: PlacedVariables
    ensemble: bool
    on_compile: Callable[[int, int], None] | None

    def restore(
        self, images: Sequence[np.ndarray], report: Callable[[int], None]
    ) -> list[np.ndarray]:
        """Restores images of one padded size whole, or one larger image in windows.

        Args:
            images: ``[H, W, C]`` without alpha, of any type. Gray and color may be mixed.
            report: Called with the number of windows that are complete.

        Returns:
            The results, each in the type of its image. They may hold NaN or infinity.

        Raises:
            ImageError: If an integer would have to hold NaN or infinity.
        """
        height, width = images[0].shape[:2]
        layout = self.layout
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks the results
            if not layout.is_whole(height, width):
                restored = restore_tiled(
                    images[0],
                    place_windows=layout.place_windows,
                    predict=lambda tiles: self._predict_tiles(tiles, report),
                    scale=layout.module.scale,
                )
                return [restored]
            most = layout.count_windows_per_call(*layout.pad_sides(height, width))
            results: list[np.ndarray] = [np.empty(0)] * len(images)
            for channels in {image.shape[2] for image in images}:
                chosen = [i for i, image in enumerate(images) if image.shape[2] == channels]
                predicted = self._predict([images[i] for i in chosen], layout.whole_bucket, most)
                for i, result in zip(chosen, predicted, strict=True):
                    results[i] = convert_dtype(result, images[i].dtype)
            report(len(images))
            return results

    def _predict_tiles(
        self, tiles: Iterable[np.ndarray], report: Callable[[int], None]
    ) -> Iterator[np.ndarray]:
        """Runs the network on tiles of one size, several at once.

        Args:
            tiles: ``[h, w, C]``, of any type.
            report: Called with the number of tiles that are complete.

        Yields:
            The results in order, float32.
        """
        tiles, done = iter(tiles), 0
        while batch := list(itertools.islice(tiles, 1)):
            most = self.layout.count_windows_per_call(*batch[0].shape[:2])
            batch += itertools.islice(tiles, most - 1)
            restored = self._predict(batch, 1, most)
            done += len(batch)
            report(done)
            yield from restored

    def _predict(
        self, images: Sequence[np.ndarray], bucket: int | None, most: int
    ) -> list[np.ndarray]:
        """Runs the network on images of one padded size, type and number of channels.

        Args:
            images: ``[H, W, C]``, of any type.
            bucket: How they are padded, as for :class:`~lcdnet_jax.inference.Restorer`.
            most: The most windows of this size in one call.

        Returns:
            The results, float32, without the padding.
        """
        converted = list(images)  # integers are converted in the compiled program
        if images[0].dtype.name not in ("uint8", "uint16"):
            converted = [image_io.to_float(image) for image in images]
        channels, wanted = converted[0].shape[-1], self.layout.module.channels
        if channels == wanted:
            return self._predict_orientations(converted, bucket, most)
        if channels == 1:
            repeated = [np.repeat(x, wanted, axis=-1) for x in converted]
            results = self._predict_orientations(repeated, bucket, most)
            return [result.mean(axis=-1, keepdims=True) for result in results]
        planes = [
            self._predict_orientations([x[..., c : c + 1] for x in converted], bucket, most)
            for c in range(channels)
        ]
        return [np.concatenate(each, axis=-1) for each in zip(*planes, strict=True)]

    def _predict_orientations(
        self, images: Sequence[np.ndarray], bucket: int | None, most: int
    ) -> list[np.ndarray]:
        """Runs the network; with ``ensemble``, returns the means over the orientations."""
        two_views = self.layout.module.takes_two_views
        orientations = self_ensemble.orientations(two_views=two_views)
        orientations = orientations if self.ensemble else orientations[:1]
        totals: list[np.ndarray] = [np.zeros((), np.float32)] * len(images)
        for orientation in orientations:
            oriented = [
                self_ensemble.orient(image[None], orientation, two_views=two_views)
                for image in images
            ]
            padded = [
                pad_to_bucket(x, bucket, tile=self.layout.tile, overlap=self.layout.overlap)
                for x in oriented
            ]
            for i, (x, restored) in enumerate(zip(oriented, self._run(padded, most), strict=True)):
                height, width = (side * self.layout.module.scale for side in x.shape[1:3])
                part = restored[None, :height, :width]
                totals[i] = totals[i] + self_ensemble.revert(part, orientation)[0]
        return [total / len(orientations) for total in totals]

    def _run(self, inputs: Sequence[np.ndarray], most: int) -> np.ndarray:
        """Runs the network on windows ``[1, H, W, C]`` of one size, in one call."""
        # A single window runs alone, unless that would be one more program to compile.
        is_alone = len(inputs) == 1 and not self.program.is_compiled(
            (most, *inputs[0].shape[1:]), inputs[0].dtype
        )
        filled = [*inputs, *[inputs[-1]] * (0 if is_alone else most - len(inputs))]
        batch = np.concatenate(filled)
        if self.on_compile is not None and not self.program.is_compiled(batch.shape, batch.dtype):
            self.on_compile(*batch.shape[1:3])
        results = np.asarray(self.program.run(self.variables, batch), np.float32)
        return results[: len(inputs)]
