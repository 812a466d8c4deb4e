"""Checkpoints: saving and restoring of training state by Orbax.

:mod:`~lcdnet_jax.checkpoints.folder` describes the files and the stages of a save.
"""

import concurrent.futures
import functools
import os
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging

from lcdnet_jax import multihost, storage
from lcdnet_jax.checkpoints import arrays, bucket, manifest
from lcdnet_jax.checkpoints.folder import (
    CheckpointError,
    CheckpointFolder,
    DamagedCheckpointError,
    on_first_process,
)
from lcdnet_jax.messages import join_some
from lcdnet_jax.typing import PyTree

T = TypeVar("T")


class Checkpoints:
    """The checkpoints of one working directory.

    Args:
        workdir: Working directory of a run.
        keep: Number of newest checkpoints to keep, at least 1. None opens the directory to read
            only.
    """

    def __init__(self, workdir: str | pathlib.Path, *, keep: int | None = None):
        path = storage.to_path(workdir)
        in_bucket = storage.is_bucket(path)
        self.directory = (path if in_bucket else path.absolute()) / "checkpoints"
        self._keep = keep
        self._protected: int | None = None
        try:
            str(self.directory).encode()
        except UnicodeEncodeError as error:
            raise CheckpointError(
                f"cannot use {os.fsencode(self.directory)!r}: Orbax needs a path that is valid "
                "UTF-8; use another one"
            ) from error
        if in_bucket and not str(path).startswith("gs:"):
            raise CheckpointError(
                f"cannot use {self.directory}: Orbax reads and writes checkpoints on disks and in "
                "buckets of Google Cloud Storage; use a local path or gs://"
            )
        folder = bucket.BucketFolder if in_bucket else CheckpointFolder
        self._folder = folder(self.directory, writable=keep is not None)
        self._known_steps: list[int] = []  # as of the last time that they were listed
        on_first_process(self._folder.open)
        try:
            self._literal, self._remove_link = arrays.make_literal_path(self.directory)
        except OSError as error:
            self._folder.unlock()
            raise CheckpointError(
                f"cannot use {self.directory}: Orbax does not take *, ?, [ and \\ literally, and a "
                f"link to it is not possible ({error}); use a path without these"
            ) from error
        self._saver = ocp.AsyncCheckpointer(arrays.make_handler())
        self._reader = ocp.Checkpointer(arrays.make_handler())
        self._background = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[int, concurrent.futures.Future[None]] | None = None

    def steps(self) -> list[int]:
        """Lists the complete checkpoints.

        Returns:
            Their steps, ascending.

        Raises:
            CheckpointError: If the directory cannot be listed.
        """
        self._known_steps = self._folder.steps()
        return self._known_steps

    def has_damaged(self) -> bool:
        """Checks whether a damaged checkpoint was moved aside.

        Returns:
            True if there is one.
        """
        return self._folder.has_damaged()

    def latest_step(self) -> int | None:
        """Finds the newest complete checkpoint, as this process sees it.

        Returns:
            Its step, or None without a checkpoint.
        """
        return max(self.steps(), default=None)

    def has_any(self, *, before: int | None = None) -> bool:
        """Checks whether there is a complete checkpoint, as process 0 sees it.

        Args:
            before: Count only smaller steps. None counts all.

        Returns:
            True if there is one.
        """
        return on_first_process(
            lambda: any(before is None or step < before for step in self.steps())
        )

    def saved(self) -> str:
        """Describes the newest complete checkpoint, after waiting for an unfinished save.

        Returns:
            A clause for a message, such as "step 20 is saved".
        """
        if self._pending is not None:
            concurrent.futures.wait([self._pending[1]])  # a failed save counts for nothing
        if storage.is_bucket(self.directory) and storage.is_down():
            step = max(self._known_steps, default=None)
        else:
            step = self.latest_step()
        return "there is no checkpoint yet" if step is None else f"step {step} is saved"

    def save(self, step: int, items: Mapping[str, PyTree]) -> None:
        """Starts a save in the background, after the earlier one is finished.

        On return the arrays are copied and may be donated. A step that is already complete is not
        saved again.

        Args:
            step: Number of training steps, at least 0.
            items: Trees of arrays by name: "params", "opt_state", "ema", "batch_stats", "critic".

        Raises:
            CheckpointError: If writing fails, or if the directory was moved, deleted or unmounted.
                Earlier checkpoints are untouched.
            ValueError: If the directory was opened to read only.
        """
        if self._keep is None:
            raise ValueError(f"{self.directory} was opened to read only; give keep")
        if self._pending is not None:
            self.finish(self._pending[0])
        try:
            on_first_process(self._folder.check_identity)
            if on_first_process(lambda: step in self.steps()):
                return
        except CheckpointError as error:
            if not storage.is_down():
                raise
            raise CheckpointError(
                f"{error}; {self.saved()}. {self.advice()}, then run the same command again"
            ) from error
        items = jax.tree.map(arrays.take_one_copy, dict(items))
        args = ocp.args.Composite(**{k: ocp.args.StandardSave(v) for k, v in items.items()})
        checksums = arrays.compute_checksums(items)
        saving = self._folder.saving_name(step)
        self._guard(step, lambda: self._saver.save(self._literal / saving, args=args))
        self._pending = step, self._background.submit(self._complete, step, checksums)

    def finish(self, step: int) -> None:
        """Waits until a save is on disk.

        Args:
            step: The step given to :meth:`save`.

        Raises:
            CheckpointError: As :meth:`save`.
        """
        self._guard(step, self._join)

    def protect(self, step: int | None) -> None:
        """Keeps one checkpoint beyond the newest ones. One that was protected before is old again.

        It waits for an unfinished save and deletes old checkpoints.

        Args:
            step: Its step. None protects none.

        Raises:
            CheckpointError: As :meth:`save`, or if the directory cannot be listed.
            ValueError: If the directory was opened to read only.
        """
        if self._keep is None:
            raise ValueError(f"{self.directory} was opened to read only; give keep")
        if self._pending is not None:
            self.finish(self._pending[0])
        keep, self._protected = self._keep, step
        on_first_process(lambda: self._folder.delete_old(keep=keep, protected=step))

    def close(self) -> None:
        """Waits for an unfinished save, logs its errors, and releases threads and the lock."""
        try:
            self._join()
            self._saver.close()
        except Exception as error:  # must not hide why the run ends
            logging.warning("the newest checkpoint was not completed: %s", error)
        self._background.shutdown()
        self._reader.close()
        self._remove_link()
        self._folder.unlock()

    def restore(self, step: int, items: Mapping[str, PyTree]) -> dict[str, PyTree]:
        """Verifies and reads the named items.

        Args:
            step: One of :meth:`steps`.
            items: Expected trees by name. Leaves are arrays or ``jax.ShapeDtypeStruct``, whose
                sharding, if any, the restored arrays get.

        Returns:
            The trees of restored arrays by name.

        Raises:
            DamagedCheckpointError: If a file of these items is missing or not as it was saved.
                Other items are not verified.
            CheckpointError: If the step does not exist, cannot be read, or holds other arrays. The
                message lists arrays that are missing, unknown or of another shape.
        """
        names, verified = on_first_process(lambda: self._verify(step, items))
        where = self.directory / str(step)
        if not verified and (missing := sorted(set(items) - set(names))):
            raise DamagedCheckpointError(
                f"the checkpoint {where} has no {', '.join(missing)}, and no manifest that says "
                "whether it had"
            )
        failure: Exception | None = None
        try:
            restored = self._read(step, items, names)
        except Exception as error:  # Orbax raises bare Exceptions for damaged files
            failure = error
        if multihost.all_succeeded(failure is None):
            if not verified:
                logging.warning(
                    "%s has no manifest, as checkpoints of older versions: damage would go "
                    "unnoticed",
                    where,
                )
            return restored
        if isinstance(failure, CheckpointError):
            raise failure
        reason = "another process of this run cannot read it, see its output"
        if failure is not None:
            reason = self._explain(failure)
        if verified:
            raise CheckpointError(
                f"cannot read the checkpoint {where}, whose files are as they were saved: {reason}"
            ) from failure
        raise DamagedCheckpointError(
            f"cannot read the checkpoint {where}, which has no manifest to verify it: "
            + " ".join(reason.split())
        ) from failure

    def restore_latest(
        self, items: Mapping[str, PyTree], *, before: int | None = None
    ) -> tuple[int, dict[str, PyTree]]:
        """Reads the newest checkpoint that is not damaged.

        Newer, damaged ones are skipped with an error in the log. Unless the directory was opened to
        read only, they are renamed, so that their steps can be saved again.

        Args:
            items: As for :meth:`restore`.
            before: Read only smaller steps. None reads all.

        Returns:
            The step, and the items as from :meth:`restore`.

        Raises:
            DamagedCheckpointError: If all are damaged. Then none is renamed.
            CheckpointError: If there is none, or as :meth:`restore`. Then none is skipped.
        """
        return self.read_newest(lambda step: self.restore(step, items), before=before)

    def restore_variables(
        self, step: int, expected: Mapping[str, PyTree], *, ema: bool = True
    ) -> dict[str, PyTree]:
        """Verifies and reads the variables of a network, see :func:`restore_variables`.

        Args:
            step: One of :meth:`steps`.
            expected: "params", and "batch_stats" where the network has any.
            ema: Use averaged parameters where the checkpoint has them.

        Returns:
            The variables. Averaged parameters are named "params", too.

        Raises:
            CheckpointError: As :meth:`restore`.
        """
        expected = jax.tree.map(arrays.add_sharding, dict(expected))
        name = "ema" if ema and "ema" in self.names(step) else "params"
        restored = self.restore(
            step, {name if k == "params" else k: tree for k, tree in expected.items()}
        )
        averaged = " (EMA)" if name == "ema" else ""
        logging.info("weights of step %d%s from %s", step, averaged, self.directory.parent)
        return {"params" if k == name else k: tree for k, tree in restored.items()}

    def items(self, step: int) -> dict[str, PyTree]:
        """Reads the metadata of a checkpoint, without its arrays.

        Args:
            step: One of :meth:`steps`.

        Returns:
            Trees of array metadata (shape and dtype) by the name of the item.

        Raises:
            CheckpointError: If the step does not exist or cannot be read.
        """
        where, literal = self.directory / str(step), self._literal / str(step)
        try:
            return {name: arrays.read_metadata(literal, name) for name in self.names(step)}
        except CheckpointError:
            raise
        except Exception as error:  # any kind, for damaged files
            raise CheckpointError(
                f"cannot read the checkpoint {where}: {self._explain(error)}"
            ) from error

    def names(self, step: int) -> list[str]:
        """Lists the items of a checkpoint, whose files are not verified.

        Args:
            step: One of :meth:`steps`.

        Returns:
            Their names.

        Raises:
            CheckpointError: If the step does not exist, or its manifest is damaged.
        """
        return on_first_process(lambda: self._verify(step, ()))[0]

    def _verify(self, step: int, wanted: Collection[str]) -> tuple[list[str], bool]:
        """Names of all items, and whether a manifest confirms the files of the wanted ones."""
        where = self.directory / str(step)
        if step not in (steps := self.steps()):
            there = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"{self.directory} has no step {step}; there are: {there}")
        try:
            files = manifest.read(where, step)
            if files is None:
                if storage.is_bucket(where) or self._has_manifests():
                    raise manifest.DamageError(
                        f"{manifest.NAME} is missing, which other checkpoints have"
                    )
                return [path.name for path in where.iterdir() if path.is_dir()], False
            manifest.verify(where, files, wanted)
        except manifest.DamageError as error:
            raise DamagedCheckpointError(f"the checkpoint {where} is damaged: {error}") from error
        except OSError as error:
            raise CheckpointError(
                f"cannot read the checkpoint {where}: {error}; check permissions and the disk"
            ) from error
        return manifest.items(files), True

    def _has_manifests(self) -> bool:
        return any((self.directory / str(s) / manifest.NAME).exists() for s in self.steps())

    def _read(
        self, step: int, items: Mapping[str, PyTree], names: Collection[str]
    ) -> dict[str, PyTree]:
        where = self._literal / str(step)
        problems: list[str] = []
        for name, tree in items.items():
            stored = arrays.read_metadata(where, name) if name in names else None
            problems += arrays.list_mismatches(name, stored, tree)
        if problems:
            shown = join_some(problems, 20, separator="\n  ")
            raise CheckpointError(
                f"the checkpoint {self.directory / str(step)} belongs to another network or "
                f"optimizer:\n  {shown}\n"
                "Use the configuration it was trained with, or another working directory."
            )
        args = {name: ocp.args.StandardRestore(tree) for name, tree in items.items()}
        return dict(self._reader.restore(where, args=ocp.args.Composite(**args)).items())

    def read_newest(self, read: Callable[[int], T], *, before: int | None = None) -> tuple[int, T]:
        """Calls a function with the newest step that it does not find damaged.

        A training in the directory may delete a step while it is read. If the directory was opened
        to read only, the function is then called with the newest step again.

        Args:
            read: A function of a step that raises :class:`DamagedCheckpointError` for a damaged
                one. It may be called with several.
            before: Use only smaller steps. None uses all.

        Returns:
            The step, and the result of the function.

        Raises:
            DamagedCheckpointError: If all are damaged. Then none is renamed.
            CheckpointError: If there is none, or as ``read`` raises.
        """
        steps = self._list_before(before)
        if not steps:
            which = "" if before is None else f" before step {before}"
            raise CheckpointError(
                f"{self.directory} contains no complete checkpoint{which}; train first"
            )
        passed: dict[int, str] = {}
        while steps:
            step = steps.pop()
            try:
                found = read(step)
            except CheckpointError as error:
                if self._keep is None and step not in (now := self._list_before(before)) and now:
                    steps = [s for s in now if s not in passed]
                elif isinstance(error, DamagedCheckpointError):
                    passed[step] = error.problem
                else:
                    raise
                continue
            on_first_process(functools.partial(self._pass_over, passed, step))
            return step, found
        raise DamagedCheckpointError(
            f"no checkpoint in {self.directory} is usable:\n  " + "\n  ".join(passed.values())
        )

    def _list_before(self, step: int | None) -> list[int]:
        return [s for s in on_first_process(self.steps) if step is None or s < step]

    def _pass_over(self, passed: Mapping[int, str], used: int) -> None:
        for step, problem in passed.items():
            moved = ""
            if self._keep is not None:
                moved = f" and it is moved to {self._folder.move_aside(step, problem)}"
            logging.error("%s; step %d is used instead%s", problem, used, moved)

    def _complete(self, step: int, checksums: Mapping[str, PyTree]) -> None:
        """Completes a save in the background, after the copy to the host."""
        self._saver.wait_until_finished()
        if jax.process_index() != 0:
            return
        assert self._keep is not None
        self._folder.check_identity()
        saving = self._folder.saving_name(step)
        try:
            arrays.read_back(self._literal / saving, checksums)
        except Exception as error:  # of many types
            raise CheckpointError(f"it cannot be read back ({error})") from error
        manifest.write(self.directory / saving, step)
        self._known_steps = [*self._known_steps, step]
        self._folder.complete(step)
        self._folder.delete_old(keep=self._keep, protected=self._protected)

    def _join(self) -> None:
        if self._pending is not None:
            _, future = self._pending
            concurrent.futures.wait([future])
            self._pending = None
            future.result()

    def _guard(self, step: int, action: Callable[[], None]) -> None:
        """Runs a part of a save; if it fails in any process, all raise."""
        failure: Exception | None = None
        try:
            action()
        except Exception as error:  # Orbax wraps a full disk in several kinds
            failure = error
        if multihost.all_succeeded(failure is None):
            return
        if jax.process_index() == 0 and failure is not None:  # else it may still be written
            self._folder.discard(step)
        reason = "another process of this run failed, see its output"
        if failure is not None:
            reason = self._explain(failure)
        raise CheckpointError(
            f"cannot write the checkpoint of step {step} to {self.directory}: {reason}\n"
            f"Nothing saved before is lost: {self.saved()}. {self.advice()}, then run the same "
            "command again."
        ) from failure

    def advice(self) -> str:
        """Says what helps if something cannot be written.

        Returns:
            The beginning of a sentence.
        """
        if storage.is_bucket(self.directory):
            return "Check the network and the access to the bucket"
        return "Free disk space or check permissions"

    def _explain(self, error: Exception) -> str:
        """The message, with the path that users know."""
        return str(error).replace(str(self._literal), str(self.directory))


def restore_variables(
    workdir: str | pathlib.Path,
    expected: Mapping[str, PyTree],
    *,
    ema: bool = True,
    step: int | None = None,
) -> tuple[dict[str, PyTree], int]:
    """Restores the variables of a network from a checkpoint.

    Args:
        workdir: Working directory of a run, or parameters-only directory.
        expected: "params", and "batch_stats" where the network has any: trees of arrays or of
            ``jax.ShapeDtypeStruct``. Restored arrays get their types and sharding. Arrays
            without sharding are placed on the first device.
        ema: Use averaged parameters where the checkpoint has them.
        step: Step to read; None for the newest that is not damaged.

    Returns:
        The variables and their step. Averaged parameters are named "params", too.

    Raises:
        CheckpointError: If there is no usable checkpoint, or it holds other variables.
    """
    checkpoints = Checkpoints(workdir)

    def read(step: int) -> dict[str, PyTree]:
        return checkpoints.restore_variables(step, expected, ema=ema)

    try:
        step, variables = checkpoints.read_newest(read) if step is None else (step, read(step))
    finally:
        checkpoints.close()
    return variables, step
