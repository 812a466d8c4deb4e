"""The flag ``--config`` of train.py, eval.py and quickstart.py, with one-line errors.

``--config.FIELD=VALUE`` overrides a field of the config file. ml_collections parses the value by
the type of the value in the file. Fields of ``network.kwargs`` and ``degradation.options`` need not
be in the file: their types come from the network's class and the degradation's function, see
:class:`_Parser`.
"""

import contextlib
import inspect
import pathlib
import re
import sys
import traceback
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from lcdnet_jax import degradations
from lcdnet_jax.config import checks, network_fields
from lcdnet_jax.config.schema import FIELDS, MAPPINGS, ConfigError, flatten
from lcdnet_jax.config.suggestions import closest, unknown_field
from lcdnet_jax.typing import Fields

flags.disclaim_key_flags()  # so that --help lists the flag among those of the script

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")

# Types of fields whose values are plain text on the command line. Others are Python literals.
_SIMPLE = (bool, int, float, str)


def define_config(default: str | None, help: str) -> flags.FlagHolder:
    """Defines ``--config``, the path of a config file, and the overrides of its fields.

    Args:
        default: Path of the default config file. None: no default.
        help: Text for ``--help``.

    Returns:
        The flag, whose value is a ``ConfigDict``, or None if no file is given.
    """
    holder = config_flags.DEFINE_config_file("config", None, help, lock_config=True)
    flag = flags.FLAGS["config"]
    flag.parser = _Parser(flag.parser)
    if default is not None:
        with _one_line_errors():  # the default is parsed at once
            flags.set_default(holder, default)
    return holder


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses a command line and validates its ``--config``; for ``app.run(flags_parser=...)``.

    absl and ml_collections show some mistakes as tracebacks. Here every mistake ends the program
    with one line, "error: ...".

    Args:
        argv: The command line, with the program first.

    Returns:
        The arguments that are not flags, with the program first.
    """
    with _one_line_errors():
        _check_names(argv)
        rest = flags.FLAGS(argv)
        if (config := flags.FLAGS["config"].value) is not None:
            _remove_placeholders(config)
            checks.validate(config)
    return rest


def read_config(arguments: Sequence[str]) -> ConfigDict:
    """Reads the configuration that a command would use. The flags of this process do not change.

    Args:
        arguments: The command without the program: ``--config``, overrides of its fields, and other
            flags, which are ignored.

    Returns:
        The configuration, which is valid.

    Raises:
        ConfigError: If there is no ``--config``, if the file cannot be read, or if the
            configuration breaks a rule. The message is one line for each mistake.
    """
    argv = ["", *arguments]
    values = flags.FlagValues()
    with _config_errors():
        config_flags.DEFINE_config_file(
            "config", None, "", flag_values=values, lock_config=True, sys_argv=argv
        )
        flag = values["config"]
        flag.parser = _Parser(flag.parser, argv)
        _check_names(argv)
        values(argv, known_only=True)
        config = flag.value
        if config is None:
            raise ConfigError("give --config, such as --config configs/sadnet_small.py")
        _remove_placeholders(config)
        checks.validate(config)
    return typing.cast(ConfigDict, config)


class _Mistake(Exception):
    """A mistake on the command line. It is not a ValueError, because absl would wrap that."""


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        with _config_errors():
            yield
    except ConfigError as error:
        sys.exit(f"error: {error}")


@contextlib.contextmanager
def _config_errors() -> Iterator[None]:
    try:
        yield
    except _Mistake as error:
        raise ConfigError(str(error)) from error
    except (flags.Error, OSError) as error:  # the last line has the cause
        cause = str(error).strip().splitlines()[-1].strip()
        raise ConfigError(f"{cause} (--help lists the flags)") from error


class _Parser(flags.ArgumentParser):
    """Prepares a config file for overrides of fields that it does not set.

    ml_collections parses a value by the type of the value that it replaces. If there is none, this
    class adds a placeholder of the right type.

    Args:
        reader: The parser of ml_collections, which reads the file.
        argv: The command line. None: that of this process.
    """

    def __init__(self, reader: flags.ArgumentParser, argv: Sequence[str] | None = None):
        super().__init__()
        self._reader = reader
        self._argv = argv

    def flag_type(self) -> str:
        return self._reader.flag_type()

    def parse(self, path: Any) -> ConfigDict:
        argv = sys.argv if self._argv is None else self._argv
        _check_names(argv)
        if isinstance(path, str):
            _check_file(pathlib.Path(path.partition(":")[0]))
        try:
            config = self._reader.parse(path)
            # ml_collections keeps an OSError of the file and raises it at the first access.
            hasattr(config, "lock")
        except Exception as error:  # the file may run any code
            raise _Mistake(_describe_file_error(path, error)) from error
        if not isinstance(config, ConfigDict):
            raise _Mistake(f"{path}: get_config() must return a ConfigDict, got {config!r}")
        _check_fields(config, path, argv)
        with config.unlocked():
            _add_placeholders(config, argv)
        return config


def _list_overrides(argv: Sequence[str]) -> list[str]:
    """Fields that a command line sets, without "config."."""
    return [match[1] for argument in argv[1:] if (match := _OVERRIDE.match(argument))]


def _check_names(argv: Sequence[str]) -> None:
    problems = [
        unknown_field(name)
        for name in _list_overrides(argv)
        if name not in FIELDS and not name.startswith(tuple(f"{field}." for field in MAPPINGS))
    ]
    if problems:
        raise _Mistake("\n".join(problems))


def _check_file(path: pathlib.Path) -> None:
    if path.exists():
        return
    # A path without a folder most likely means configs/.
    folder = path.parent if path.parent != pathlib.Path() else pathlib.Path("configs")
    found = sorted(file.name for file in folder.glob("*.py") if file.stem != "__init__")
    if not found:
        raise _Mistake(
            f"{path} does not exist, and {folder} contains no config files; give one, such as "
            "configs/sadnet_small.py"
        )
    close = closest(path.name, found) or closest(f"{path.name}.py", found)
    hint = f"did you mean {folder / close}? " if close else ""
    raise _Mistake(f"{path} does not exist; {hint}{folder} holds {', '.join(found)}")


def _describe_file_error(path: str, error: BaseException) -> str:
    """The line of a config file at which an error arose, and the error."""
    name, colon, variant = path.partition(":")
    if colon and "get_config() takes 0 positional arguments" in str(error):
        return f"{name} has no variants; leave ':{variant}' off"
    file = pathlib.Path(name).resolve()
    chain: BaseException | None = error
    lines: list[int | None] = []
    while chain is not None:  # ml_collections replaces some errors by others
        frames = traceback.extract_tb(chain.__traceback__)
        lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename).resolve() == file]
        if lines:
            break
        chain = chain.__cause__ or chain.__context__
    shown = error if chain is None else chain
    place = f"{path}, line {lines[-1]}" if lines else path
    cause = f"{type(shown).__name__}: {' '.join(str(shown).split())}"
    return f"{place}: {cause}" + (f" (the variant is {variant!r})" if colon else "")


def _check_fields(config: ConfigDict, path: str, argv: Sequence[str]) -> None:
    """Checks that a config file has the fields that a command line sets."""
    fields = flatten(config)
    for name in _list_overrides(argv):
        known = next((field for field in MAPPINGS if name.startswith(f"{field}.")), name)
        if known not in fields:
            raise _Mistake(
                f"{path} has no field config.{known}, which the command line sets; start the file "
                "from configs/default.py"
            )


def _add_placeholders(config: ConfigDict, argv: Sequence[str]) -> None:
    """Adds typed placeholders for fields that a command line sets and ``config`` lacks."""
    for name in _list_overrides(argv):
        if name.startswith("network.kwargs."):
            _add_network_field(config, name, argv)
        elif name.startswith("degradation.options."):
            _add_degradation_option(config, name)


def _remove_placeholders(config: ConfigDict) -> None:
    """Replaces placeholders by plain values."""
    fields = flatten(config)
    with config.unlocked():
        for name in MAPPINGS:
            if isinstance(fields.get(name), ConfigDict):
                section, _, key = name.partition(".")
                config[section][key] = ConfigDict(fields[name].to_dict())


def _add_network_field(config: ConfigDict, name: str, argv: Sequence[str]) -> None:
    field = name.removeprefix("network.kwargs.")
    network = _find_value(argv, "network.name") or config.network.name
    if wanted := FIELDS["network.name"].rule(network):
        raise _Mistake(f"config.network.name must be {wanted}, got {network!r}")
    _add(config.network.kwargs, name, field, network_fields.type_hints(network), network)


def _add_degradation_option(config: ConfigDict, name: str) -> None:
    kind, _, option = name.removeprefix("degradation.options.").partition(".")
    options = config.degradation.options
    if kind not in degradations.KINDS:
        raise _Mistake(
            _describe_unknown(name, kind, degradations.KINDS, "degradations with options are")
        )
    if options.get(kind) is None:
        options[kind] = ConfigDict()
    if option:
        function = degradations.KINDS[kind]
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters.values()
        known = {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
        known.pop("return_kernels", None)  # it follows from the objective
        _add(options[kind], name, option, known, kind)


def _add(holder: ConfigDict, name: str, field: str, known: Fields, owner: str) -> None:
    if field not in known:
        raise _Mistake(_describe_unknown(name, field, known, f"{owner!r} has the fields"))
    if holder.get(field) is None:
        holder[field] = config_dict.placeholder(_flag_type(known[field]))


def _describe_unknown(name: str, part: str, known: Fields, introduction: str) -> str:
    close = closest(part, known)
    hint = f"did you mean {close}? " if close else ""
    return f"unknown field config.{name}; {hint}{introduction} {', '.join(sorted(known))}"


def _flag_type(hint: object) -> type:
    """The type by which ml_collections parses a value; ``object`` stands for any literal."""
    if hint in _SIMPLE:
        return typing.cast(type, hint)
    return tuple if typing.get_origin(hint) is tuple else object


def _find_value(argv: Sequence[str], field: str) -> str | None:
    """The value that a command line gives a field, the last one of several."""
    found = None
    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=True):
        match = _OVERRIDE.match(argument)
        if match and match[1] == field:
            found = argument.partition("=")[2] if "=" in argument else following
    return found
