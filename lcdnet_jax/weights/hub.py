"""Weights in model repositories of the Hugging Face hub, by names ``hf://ORG/NAME[@REVISION]``.

A repository holds the weights as a safetensors file, their card, a page for people
(:mod:`lcdnet_jax.weights.model_card`) and ``SHA256SUMS``. The package ``huggingface_hub`` (extra
``hub``) downloads each version once, into its own cache. It reads the token of ``hf auth login`` or
of the environment variable HF_TOKEN. What is in the cache works without a network.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lcdnet_jax._version import __version__
from lcdnet_jax.weights import card as card_lib

PREFIX = "hf://"

# Files of a repository, besides card.json.
WEIGHTS = "model.safetensors"
PAGE = "README.md"
_SUMS = "SHA256SUMS"

# What loading needs.
_NEEDED = (card_lib.NAME, _SUMS, WEIGHTS)

# ORG/NAME, and a branch, tag or commit, which names a file of the cache.
_NAME = re.compile(r"(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>\w[\w.+-]*(?:/\w[\w.+-]*)*))?")


class HubError(ValueError):
    """A repository cannot be used. The message names it, the cause and the fix."""


class _Place(NamedTuple):
    """A repository at a revision."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_name(name: str | os.PathLike[str]) -> bool:
    """Tells whether a name is meant as one of the hub.

    Args:
        name: A name or a path.

    Returns:
        Whether it begins with ``hf://``.
    """
    return os.fspath(name).startswith(PREFIX)


def download(name: str) -> pathlib.Path:
    """Finds the weights of a repository, downloads them if needed, and verifies their checksums.

    If the hub cannot be reached, or HF_HUB_OFFLINE is set, the version that was downloaded last for
    this revision is used.

    Args:
        name: ``hf://ORG/NAME`` for the newest version, or ``hf://ORG/NAME@REVISION`` for a branch,
            a tag or a commit. Only a commit (its 40 digits) always means the same weights.

    Returns:
        The safetensors file in the cache of huggingface_hub. Its name and folder have no meaning.

    Raises:
        HubError: For a wrong name, a repository that does not exist, may not be read or holds no
            weights of this library, a file that is not the one that was uploaded, and where there
            is neither a network nor a copy in the cache.
        CardError: If the card is invalid or of a newer version.
        ImportError: If huggingface_hub is not installed.
        OSError: If the cache cannot be written.
    """
    place = _parse(name)
    hub = _import_hub(place)
    with _silence(hub):
        try:
            folder = pathlib.Path(
                hub.snapshot_download(
                    place.repo,
                    revision=place.revision,
                    allow_patterns=list(_NEEDED),
                    library_name="lcdnet_jax",
                    library_version=__version__,
                )
            )
        except Exception as error:  # of many types, also of the packages that huggingface_hub uses
            raise _explain(hub, error, place) from error
    _verify(folder, place)
    return folder / WEIGHTS


def check_upload(repo: str) -> None:
    """Checks what :func:`upload` needs, as far as it is known without the network.

    Args:
        repo: ``ORG/NAME``, also with ``hf://`` before it.

    Raises:
        HubError: For a wrong name, and where there is no token or HF_HUB_OFFLINE is set.
        ImportError: If huggingface_hub is not installed.
    """
    place = _parse_target(repo)
    hub = _import_hub(place)
    if hub.is_offline_mode():
        raise HubError(f"HF_HUB_OFFLINE is set, so nothing is uploaded to {place}; unset it")
    if hub.get_token() is None:
        raise HubError(
            f"uploading to {place} needs a token that may write; run `hf auth login`, or set "
            "HF_TOKEN to a token of the hub's settings"
        )


def upload(
    repo: str, files: Mapping[str, bytes], *, private: bool = False, force: bool = False
) -> str:
    """Uploads files as one commit, and downloads them to compare.

    Args:
        repo: ``ORG/NAME``, also with ``hf://`` before it. It is created if it does not exist.
        files: Content by name: ``card.json``, :data:`WEIGHTS` and :data:`PAGE`. Their checksums are
            added.
        private: Whether a new repository is private.
        force: Whether files of the repository are replaced. Its history keeps them.

    Returns:
        The name of this version, ``hf://ORG/NAME@COMMIT``.

    Raises:
        HubError: As :func:`check_upload`, for a repository that may not be written, that holds
            files (without ``force``) or is public (with ``private``), and if the connection fails.
            Nothing is uploaded then, but an empty repository may have been created.
        ImportError: If huggingface_hub is not installed.
    """
    check_upload(repo)
    place = _parse_target(repo)
    hub = _import_hub(place)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    contents = {**files, _SUMS: lines.encode()}
    api = hub.HfApi(library_name="lcdnet_jax", library_version=__version__)
    with _silence(hub):
        try:
            api.create_repo(place.repo, private=private or None, exist_ok=True)
            before = api.model_info(place.repo)
            _check_target(before, place, contents, private=private, force=force)
            commit = api.create_commit(
                place.repo,
                [hub.CommitOperationAdd(name, data) for name, data in contents.items()],
                commit_message=f"Upload weights by lcdnet_jax {__version__}",
                parent_commit=before.sha,
            )
        except HubError:
            raise
        except Exception as error:  # of many types, also of the packages that huggingface_hub uses
            raise _explain(hub, error, place) from error
    uploaded = _Place(place.repo, commit.oid)
    file = download(str(uploaded))
    if hashlib.sha256(file.read_bytes()).hexdigest() != sums[WEIGHTS]:
        raise HubError(f"{uploaded} does not hold what was uploaded; upload it again, with --force")
    return str(uploaded)


def _parse(name: str) -> _Place:
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if not match:
        raise HubError(
            f"{name} is no name of the hub; write hf://ORG/NAME, or hf://ORG/NAME@REVISION for a "
            "branch, a tag or a commit"
        )
    return _Place(match["repo"], match["revision"])


def _parse_target(repo: str) -> _Place:
    place = _parse(repo)
    if place.revision:
        raise HubError(
            f"{repo} names a version, which an upload makes anew; leave @{place.revision} off"
        )
    return place


def _import_hub(place: _Place) -> Any:
    """Imports huggingface_hub, and checks the name of the repository by its rules."""
    # Read at the first import. Otherwise the package asks the hub how to name the program that
    # runs Python, and tells it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors, utils  # noqa: F401, constants for callers
    except ImportError as error:
        raise ImportError(
            f"{place} needs the package huggingface_hub, which cannot be imported ({error}); run\n"
            '  pip install "lcdnet-jax[hub]"'
        ) from error
    try:
        utils.validate_repo_id(place.repo)
    except errors.HFValidationError as error:
        raise HubError(f"{place} is no name of the hub ({error}); correct it") from None
    return huggingface_hub


@contextlib.contextmanager
def _silence(hub: Any) -> Iterator[None]:
    """Silences warnings of huggingface_hub, and its progress bars outside of terminals.

    It warns, for example, that there is no token, and by its use of other packages.
    """
    logging = hub.utils.logging
    verbosity = logging.get_verbosity()
    chosen = hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # by the user's environment
    terminal = sys.stderr is not None and sys.stderr.isatty()
    hides = not (chosen or terminal or hub.utils.are_progress_bars_disabled())
    logging.set_verbosity_error()
    if hides:
        hub.utils.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if hides:
            hub.utils.enable_progress_bars()


def _check_target(
    info: Any, place: _Place, contents: Mapping[str, bytes], *, private: bool, force: bool
) -> None:
    """Raises HubError if a repository, as ``HfApi.model_info`` describes it, may not be written."""
    if private and not info.private:
        raise HubError(
            f"{place} exists and is public; choose another name, or make it private in its "
            "settings on the hub"
        )
    existing = sorted({file.rfilename for file in info.siblings or ()} & set(contents))
    if existing and not force:
        raise HubError(
            f"{place} has {', '.join(existing)}; choose another name, or --force to upload a newer "
            "version (older ones stay in its history)"
        )


def _verify(folder: pathlib.Path, place: _Place) -> None:
    """Raises HubError or CardError unless a folder holds weights as they were uploaded."""
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise HubError(
            f"{place} holds no weights of lcdnet_jax, it has no {', '.join(missing)}; give a "
            "repository that lcdnet-jax export --push-to-hub wrote"
        )
    card_lib.read(folder)  # of a newer version, perhaps
    sums = _read_sums(folder / _SUMS)
    for name in (card_lib.NAME, WEIGHTS):
        digest = _digest(folder / name)
        if digest != sums.get(name):
            raise HubError(
                f"{folder / name} is not the file that was uploaded to {place} (its SHA-256 is "
                f"{digest}, not {sums.get(name)}); delete {_cache_of(folder)} to download it "
                "again, and if that does not help, give an older version of the repository as "
                "@COMMIT"
            )


def _read_sums(file: pathlib.Path) -> dict[str, str]:
    """SHA-256 by name; lines of another form say nothing."""
    pairs = (line.split() for line in file.read_text(errors="replace").splitlines())
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cache_of(snapshot: pathlib.Path) -> pathlib.Path:
    """The folder of a repository in the cache: CACHE/models--ORG--NAME/snapshots/COMMIT."""
    return snapshot.parents[1]


def _explain(hub: Any, error: Exception, place: _Place) -> Exception:
    """Makes an error of this library, in one line, from one of huggingface_hub."""
    errors = hub.errors
    where = hub.constants.ENDPOINT
    if isinstance(error, errors.LocalEntryNotFoundError):
        # The reason why the hub was not asked. Without one, a file is missing in the cache.
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return HubError(
            f"{place} is not in the cache of huggingface_hub, and HF_HUB_OFFLINE is set; download "
            "it once with HF_HUB_OFFLINE=0"
        )
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{place} asks its users to accept terms; accept them at {where}/{place.repo}, and run "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(
            f"{PREFIX}{place.repo} has no branch, tag or commit {place.revision or 'main'}; see "
            f"{where}/{place.repo}/commits"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"{place} does not exist at {where}, or is private; correct the name, or give a token "
            "that may read it (`hf auth login` or HF_TOKEN)"
        )
    if isinstance(error, errors.HfHubHTTPError):
        return HubError(_explain_status(error, place, where))
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return error  # of the cache
    reason = " ".join(str(error).split()) or type(error).__name__
    return HubError(
        f"{place} cannot be transferred, since {where} does not answer as it should ({reason}); "
        "check the network, and HF_ENDPOINT if it is set"
    )


def _explain_status(error: Any, place: _Place, where: str) -> str:
    status = error.response.status_code
    said = " ".join((error.server_message or "").split())
    said = f" ({said[:300]})" if said else ""
    fixes = {
        401: "the token is not valid; run `hf auth login`, or set HF_TOKEN to another one",
        403: "the token may not do this; use one that may, from the hub's settings",
        409: "somebody else changes the repository; try again",
        412: "somebody else has changed the repository meanwhile; try again",
        429: "there were too many requests; try again later",
    }
    fix = fixes.get(status, "try again later")
    return f"{place}: {where} answers with status {status}{said}; {fix}"
