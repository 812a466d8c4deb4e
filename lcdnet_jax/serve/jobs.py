"""Jobs: images that wait, are computed or are kept, and the thread that computes.

All state is guarded by one lock. The thread runs :func:`lcdnet_jax.inference.batch.restore` on one
image at a time, so that results are those of ``lcdnet-jax restore``.
"""

import collections
import contextlib
import logging
import pathlib
import secrets
import shutil
import threading
import time
from typing import Any

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header
from lcdnet_jax.inference import batch, plan
from lcdnet_jax.messages import format_count
from lcdnet_jax.serve import demo
from lcdnet_jax.serve.catalog import Catalog, Weights
from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.serve.job import FINAL, Job, Upload
from lcdnet_jax.serve.settings import Settings
from lcdnet_jax.weights import pretrained

_SWEEP_SECONDS = 2.0

# Most jobs, also ended ones. Their uploads are limited by bytes.
_MOST_JOBS = 1000

_logger = logging.getLogger(__name__)


class Canceled(Exception):
    """Ends the computation of a job that is canceled."""


class Jobs:
    """The jobs of a server. Its methods may run in any thread.

    Args:
        root: Folder for the files, for this process alone.
        catalog: The weights.
        settings: The settings.
    """

    def __init__(self, root: pathlib.Path, catalog: Catalog, settings: Settings):
        self._root = root
        self._catalog = catalog
        self._settings = settings
        self._most_bytes = min(settings.kept_bytes, shutil.disk_usage(root).free // 2)
        self._lock = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._queue: collections.deque[Job] = collections.deque()
        self._current: Job | None = None
        self._held = 0
        self._is_closed = False
        self._worker = threading.Thread(target=self._work, name="restore", daemon=True)
        self._sweeper = threading.Thread(target=self._sweep, name="sweep", daemon=True)

    def start(self) -> None:
        """Starts to compute."""
        self._worker.start()
        self._sweeper.start()

    def close(self) -> None:
        """Cancels all jobs. It does not wait for the window that is computed."""
        with self._lock:
            self._is_closed = True
            for job in list(self._jobs.values()):
                if job.state not in FINAL:
                    self._finish(job, "canceled")
            self._lock.notify_all()

    def join(self, timeout: float) -> bool:
        """Waits, after :meth:`close`, until nothing is computed.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether the thread has ended.
        """
        self._worker.join(timeout)
        return not self._worker.is_alive()

    @property
    def queued(self) -> int:
        """Number of jobs that wait."""
        with self._lock:
            return len(self._queue)

    # Uploads

    def create_upload(self) -> Upload:
        """Makes a folder for an image.

        Returns:
            The upload, without a name or a file yet.
        """
        folder = self._root / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return Upload(folder, folder / secrets.token_hex(8))

    def hold(self, upload: Upload, size: int) -> None:
        """Reserves disk space; forgets the oldest results if there is too little.

        Args:
            upload: The upload for which it is used.
            size: Bytes.

        Raises:
            RequestError: If there is too little space at the moment (429), or for this upload at
                any time (507), or the upload was deleted (404).
        """
        with self._lock:
            if upload.is_deleted:
                raise _unknown()
            if upload.held + size > self._most_bytes:
                raise RequestError(
                    507,
                    f"the image needs more than {self._most_bytes / 1e6:.1f} MB, which is all that "
                    "the server may use of the disk; free some space or choose another folder with "
                    "TMPDIR, and start the server again",
                )
            self._make_space(size)
            if self._held + size > self._most_bytes:
                raise RequestError(
                    429,
                    "the server holds as many images as it may; try again when some are finished",
                    {"Retry-After": "10"},
                )
            self._held += size
            upload.held += size

    def release(self, upload: Upload, size: int) -> None:
        """Gives reserved disk space back.

        Args:
            upload: The upload.
            size: Bytes of :meth:`hold`.
        """
        with self._lock:
            if not upload.is_deleted:
                self._held -= size
                upload.held -= size

    def _make_space(self, size: int) -> None:
        if self._held + size <= self._most_bytes:
            return
        finished = sorted(
            (job for job in self._jobs.values() if job.state in FINAL and job.upload.held),
            key=lambda job: job.ended or 0.0,
        )
        for job in finished:
            if self._held + size <= self._most_bytes:
                return
            self._forget(job)

    def discard(self, upload: Upload) -> None:
        """Deletes the files of an upload that is no job, or no longer.

        Args:
            upload: The upload.
        """
        with self._lock:
            self._delete_files(upload)

    def _delete_files(self, upload: Upload) -> None:
        shutil.rmtree(upload.folder, ignore_errors=True)
        self._held -= upload.held
        upload.held, upload.is_deleted = 0, True

    # Jobs

    def check_queue(self) -> None:
        """Checks that one more job may wait.

        Raises:
            RequestError: If the queue is full (429).
        """
        with self._lock:
            if self._is_closed:
                raise RequestError(503, "the server is shutting down")
            if len(self._queue) >= self._settings.queue:
                raise RequestError(
                    429,
                    f"the queue is full ({format_count(len(self._queue), 'image')}); try again "
                    "later",
                    {"Retry-After": "10"},
                )

    def add(self, upload: Upload, header: Header, weights: Weights, strength: float) -> Job:
        """Adds a job to the queue.

        Args:
            upload: The image. It belongs to the job from now on.
            header: Its size.
            weights: The weights.
            strength: How much of the change is used.

        Returns:
            The job.

        Raises:
            RequestError: If the queue is full (429).
        """
        (planned,) = plan.plan_jobs([str(upload.source)], None)
        with self._lock:
            self.check_queue()
            job = Job(secrets.token_urlsafe(24), upload, header, weights, strength, planned)
            ended = [each for each in self._jobs.values() if each.state in FINAL]
            for each in ended[: max(len(self._jobs) + 1 - _MOST_JOBS, 0)]:
                self._forget(each)
            self._jobs[job.id] = job
            self._queue.append(job)
            self._lock.notify_all()
            return job

    def find(self, name: str) -> Job:
        """Finds a job, and notes that somebody asked about it.

        Args:
            name: Its id.

        Returns:
            The job.

        Raises:
            RequestError: If there is none (404).
        """
        with self._lock:
            job = self._jobs.get(name)
            if job is None:
                raise _unknown()
            job.asked = time.monotonic()
            return job

    def cancel(self, job: Job) -> None:
        """Cancels a job, or forgets one that has ended.

        A job that is computed ends after its current window.

        Args:
            job: The job.
        """
        with self._lock:
            if job.state in FINAL:
                self._forget(job)
            else:
                self._finish(job, "canceled")

    def forget(self, job: Job) -> None:
        """Cancels a job if it has not ended, and forgets it.

        Args:
            job: The job.
        """
        with self._lock:
            if job.state not in FINAL:
                self._finish(job, "canceled")
            self._forget(job)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        if job is not self._current:  # else the worker deletes them
            self._delete_files(job.upload)

    def _finish(self, job: Job, state: str) -> None:
        """Sets a final state; without a result, files are deleted."""
        job.state, job.ended = state, time.monotonic()
        if job in self._queue:
            self._queue.remove(job)
        if state != "done" and job is not self._current:
            self._delete_files(job.upload)

    def describe(self, job: Job) -> dict[str, Any]:
        """Describes the state of a job.

        Args:
            job: The job.

        Returns:
            What ``GET /jobs/{id}`` answers.
        """
        with self._lock:
            job.asked = now = time.monotonic()
            is_done = job.state == "done"
            position = self._queue.index(job) + 1 if job.state == "queued" else None
            until = job.ended if job.ended is not None else now
            result = None
            if is_done:
                result = {
                    "name": job.result_name,
                    "bytes": job.result_bytes,
                    "media_type": job.media_type,
                    "width": job.header.width * job.weights.restorer.module.scale,
                    "height": job.header.height * job.weights.restorer.module.scale,
                }
            return {
                "id": job.id,
                "state": job.state,
                "name": job.upload.name,
                "weights": job.weights.name,
                "strength": job.strength,
                "width": job.header.width,
                "height": job.header.height,
                "megapixels": job.megapixels,
                "queue_position": position,
                "windows_done": job.done,
                "windows": job.windows,
                "megapixels_per_second": job.measure_speed(),
                "eta_seconds": self._estimate_time_left(job, now),
                "seconds": 0.0 if job.started is None else until - job.started,
                "error": job.error,
                "left_out": list(job.left_out),
                "notes": list(job.notes),
                "result": result,
            }

    def _estimate_time_left(self, job: Job, now: float) -> float | None:
        """Seconds until a job is finished; None if nothing is known."""
        if job.state in FINAL:
            return 0.0
        if job.state == "queued":
            before = [] if self._current is None else [self._estimate_time_left(self._current, now)]
            index = self._queue.index(job)
            before += [self._estimate(each) for each in [*self._queue][: index + 1]]
            known = [seconds for seconds in before if seconds is not None]
            return sum(known) if len(known) == len(before) else None
        if job.windows and job.done >= 2 and job.first is not None and job.last is not None:
            each = (job.last - job.first) / (job.done - 1)
            return max(each * (job.windows - job.done) - (now - job.last), 0.0)
        total = self._estimate(job)
        if total is None:
            return None
        return max(total - (now - job.started if job.started is not None else 0.0), 0.0)

    def _estimate(self, job: Job) -> float | None:
        """Seconds that the network needs for a job."""
        speed = self._catalog.estimate_speed(job.weights)
        return None if speed is None else speed * job.megapixels

    # The thread that computes

    def _work(self) -> None:
        if self._settings.warm_up:
            self._warm_up()
        while (job := self._take()) is not None:
            try:
                self._restore(job)
            except Exception as error:  # the next job must be computed
                _logger.exception("a job failed")
                with self._lock:
                    if job.state not in FINAL:
                        job.error = f"the server failed ({type(error).__name__})"
                        self._finish(job, "failed")
            finally:
                with self._lock:
                    self._current = None
                    if job.state != "done" or job.id not in self._jobs:
                        self._delete_files(job.upload)

    def _warm_up(self) -> None:
        """Compiles the default weights for the demo, and measures their speed."""
        if self._catalog.default not in pretrained.names():
            return  # they may need minutes, and the first image others
        weights = self._catalog.find(None)
        image = image_io.decode(demo.read(), name=demo.NAME)
        try:
            for _ in range(2):
                start = time.monotonic()
                weights.restorer(image)
                seconds = time.monotonic() - start
                if self._is_closed or self._queue:
                    return
        except Exception:  # the first job will say why
            _logger.debug("the warm-up failed", exc_info=True)
            return
        self._catalog.add_measurement(weights, seconds, *image.shape[:2])

    def _take(self) -> Job | None:
        with self._lock:
            while not self._queue and not self._is_closed:
                self._lock.wait()
            if self._is_closed:
                return None
            job = self._current = self._queue.popleft()
            job.state = "restoring"
            return job

    def _restore(self, job: Job) -> None:
        def check() -> None:
            if job.state in FINAL:
                raise Canceled

        def show_compilation(height: int, width: int) -> None:
            with self._lock:
                check()
                job.state, job.was_compiled = "compiling", job.was_compiled or job.first is None

        def show_windows(done: int, total: int) -> None:
            with self._lock:
                check()
                job.state = "writing" if done == total else "restoring"
                job.done, job.windows = done, total
                now = time.monotonic()
                if done == 0:
                    job.started = now
                else:
                    job.first, job.last = job.first or now, now

        restorer = job.weights.restorer.with_strength(job.strength)
        outcomes = batch.restore(
            restorer, [job.plan], on_compile=show_compilation, on_windows=show_windows
        )
        with contextlib.closing(outcomes):
            ((_, outcome),) = outcomes
        with self._lock:
            if job.state in FINAL:
                return
            if isinstance(outcome, Exception):
                job.error = self.describe_error(job.upload, job.result_name, outcome)
                job.is_disk_full = isinstance(outcome, batch.DiskError)
                self._finish(job, "failed")
                return
            job.left_out = tuple(sorted(outcome.left_out))
            if outcome.warning:
                warning = self.describe_error(job.upload, job.result_name, outcome.warning)
                job.notes = (*job.notes, warning)
            job.result_bytes = job.plan.target.stat().st_size
            self._make_space(job.result_bytes)
            self._held += job.result_bytes
            job.upload.held += job.result_bytes
            self._finish(job, "done")
        if (seconds := job.measure_seconds()) is not None and job.strength > 0:
            self._catalog.add_measurement(job.weights, seconds, job.header.height, job.header.width)

    def add_note(self, text: str) -> bool:
        """Adds a line to what the user should know about the image that is computed.

        Args:
            text: The line.

        Returns:
            Whether an image is computed.
        """
        with self._lock:
            if self._current is None:
                return False
            self._current.notes = (*self._current.notes, text)
            return True

    def describe_error(self, upload: Upload, result: str, error: Exception | str) -> str:
        """Describes an error in the client's names.

        Args:
            upload: The image.
            result: The client's name of the result.
            error: The error, or its message.

        Returns:
            Its message in one line, where the names of temporary files are replaced.
        """
        text = " ".join(str(error).split())
        target = str(upload.folder / f"{upload.source.stem}.restored")
        (planned,) = plan.plan_jobs([str(upload.source)], None)
        for path, name in ((planned.target, result), (upload.source, upload.name)):
            text = text.replace(str(path), name).replace(path.name, name)
        return text.replace(target, result).replace(str(upload.folder), "the server's folder")

    def _sweep(self) -> None:
        """Forgets what is too old; cancels jobs about which nobody asks."""
        while not self._is_closed:
            with self._lock:
                self._lock.wait(_SWEEP_SECONDS)
                now = time.monotonic()
                for job in list(self._jobs.values()):
                    if job.ended is not None:
                        if now - max(job.ended, job.asked) > self._settings.kept_seconds:
                            self._forget(job)
                    elif now - job.asked > self._settings.unattended_seconds:
                        job.error = "canceled, because nobody asked about it"
                        self._finish(job, "canceled")


def _unknown() -> RequestError:
    return RequestError(404, "no such job; results are kept for a limited time")
