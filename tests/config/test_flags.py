"""The flag --config: overrides of fields, and mistakes, which end in one line."""

import sys

import pytest
from absl import flags

from lcdnet_jax.config import (
    ConfigError,
    checks,
    define_config,
    parse_flags,
    read_config,
    validate,
)
from lcdnet_jax.config.flags import _list_overrides

# ml_collections loads config files in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def parsed(monkeypatch, request):
    """Parses a command line as a script would."""
    root = request.config.rootpath
    monkeypatch.chdir(root)
    known = set(flags.FLAGS)

    def parsed(*arguments, default=None):
        argv = ["script.py", *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        holder = define_config(default, "Experiment.")
        assert parse_flags(argv) == ["script.py"]
        return holder.value

    yield parsed
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.fixture
def error(parsed):
    def error(*arguments, **how):
        with pytest.raises(SystemExit) as exit_:
            parsed(*arguments, **how)
        assert exit_.value.code.startswith("error: ")
        return exit_.value.code.removeprefix("error: ")

    return error


def kwargs(**fields):
    return [f"--config.network.kwargs.{name}={value}" for name, value in fields.items()]


def test_fields_of_the_network_that_the_file_does_not_set(parsed):
    given = kwargs(
        scam_type="sff", enc_blocks="(1,1,1,2)", msfm_kernels="3,7", local_pool=96, remat="true",
        layer_scale_init=0.3, norm_eps="1e-5", residual_base="none",
    )  # fmt: skip
    config = parsed(
        "--config=configs/lcdnet_gopro.py", *given, "--noconfig.network.kwargs.use_msfm"
    )
    assert config.network.kwargs.to_dict() == {
        "preset": "base", "scam_type": "sff", "enc_blocks": (1, 1, 1, 2), "msfm_kernels": (3, 7),
        "local_pool": 96, "remat": True, "layer_scale_init": 0.3, "norm_eps": 1e-5,
        "residual_base": "none", "use_msfm": False,
    }  # fmt: skip
    assert "FieldReference" not in repr(config.network.kwargs) + str(config)
    assert "_value" not in str(config)
    with pytest.raises(AttributeError, match="locked"):
        config.network.kwargs.scam_typ = "sff"  # still locked


def test_of_another_network_than_the_file_names(parsed):
    config = parsed("--config=configs/sfm_awgn.py", "--config.network.name", "memnet",
                    "--config.network.kwargs.units", "2")  # fmt: skip
    assert config.network.kwargs.to_dict() == {"units": 2}
    config = parsed("--config=configs/tiny.py", "--config.network.name=dncnn",
                    "--config.network.kwargs={'depth': 3}")  # fmt: skip
    assert config.network.kwargs.to_dict() == {"depth": 3}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "depth=3",
            "unknown field config.network.kwargs.depth; 'sadnet' has the fields dilations, groups",
        ),
        ("widht=3", "unknown field config.network.kwargs.widht; did you mean width? 'sadnet' has"),
        ("channels=3", "unknown field config.network.kwargs.channels; 'sadnet' has the fields"),
        ("zero_init_offsets=3.5", "Non-boolean argument to boolean flag"),
        ("groups=many", "flag --config.network.kwargs.groups=many: invalid literal for int()"),
        ("preset=huge", "config.network.kwargs: network 'sadnet' has no preset 'huge'"),
        ("use_rsab.x=1", "unknown field config.network.kwargs.use_rsab.x; "),
    ],
)
def test_mistakes_in_fields_of_the_network(error, field, message):
    assert message in error("--config=configs/tiny.py", f"--config.network.kwargs.{field}")


def test_options_of_degradations_that_the_file_does_not_set(parsed):
    options = "--config.degradation.options."
    config = parsed("--config=configs/lcdnet_synthetic_motion.py", f"{options}motion.anxiety=0.5",
                    "--config.degradation.kind=motion+camera+jpeg",
                    f"{options}camera.shot=(0.001,0.01)", f"{options}jpeg.subsampling=4:4:4",
                    f"{options}jpeg.quality=50,90")  # fmt: skip
    found = config.degradation.options.to_dict()
    assert found["motion"]["anxiety"] == 0.5
    assert found["motion"]["length"] == (4.0, 12.0)  # of the file
    assert found["camera"] == {"shot": (0.001, 0.01)}
    assert found["jpeg"] == {"subsampling": "4:4:4", "quality": (50, 90)}
    config = parsed("--config=configs/tiny.py", "--config.degradation.kind=rain",
                    f"{options}rain={{'kind': 'heavy'}}")  # fmt: skip
    assert config.degradation.options.to_dict() == {"rain": {"kind": "heavy"}}
    config = parsed("--config=configs/tiny.py", "--config.degradation.kind=rain",
                    f"{options}rain.kind=('light','heavy')")  # fmt: skip
    assert config.degradation.options.to_dict() == {"rain": {"kind": ("light", "heavy")}}
    config = parsed("--config=configs/sr_kmsr.py", f"{options}low_resolution.pool=some/folder")
    assert config.degradation.options.low_resolution.pool == "some/folder"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "rain.angle=1",
            "unknown field config.degradation.options.rain.angle; 'rain' has the fields kind",
        ),
        (
            "motoin.length=(1,2)",
            "config.degradation.options.motoin.length; did you mean motion? degradations with "
            "options are camera, defocus,",
        ),
        ("low_resolution.return_kernels=True", "unknown field config.degradation.options.low_res"),
        ("rain.kind=heavy", "config.degradation.options {'rain': {'kind': 'heavy'}} are of other"),
    ],
)
def test_mistakes_in_options(error, option, message):
    assert message in error("--config=configs/tiny.py", f"--config.degradation.options.{option}")


def test_unknown_fields(error):
    lines = error("--config=configs/tiny.py", "--config.lr=1", "--config.batchsize=3").splitlines()
    assert lines == [
        "unknown field config.lr; did you mean optimizer.learning_rate?",
        "unknown field config.batchsize; did you mean batch_size?",
    ]
    assert "unknown field config.network.preset; did" in error("--config.network.preset=small")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("configs/nosuch.py", "configs/nosuch.py does not exist; configs holds default.py, "),
        ("configs/sadnet_smal.py:30", "did you mean configs/sadnet_small.py? configs holds"),
        ("configs/sadnet_small", "did you mean configs/sadnet_small.py? configs holds"),
        ("sadnet_small", "did you mean configs/sadnet_small.py? configs holds"),
        ("nowhere/a.py", "nowhere/a.py does not exist, and nowhere contains no config files; give"),
    ],
)
def test_missing_file(error, path, message):
    found = error("--config", path)
    assert message in found
    assert "\n" not in found
    assert "__init__" not in found


def test_a_file_without_variants(error):
    assert error("--config", "configs/tiny.py:half") == (
        "configs/tiny.py has no variants; leave ':half' off"
    )


def test_default(parsed, error):
    default = "configs/sadnet_quickstart.py"
    assert parsed(default=default).network.kwargs.preset == "fast"
    assert parsed("--config=configs/tiny.py", default=default).network.kwargs.width == 2
    config = parsed("--config.steps=60", *kwargs(use_context="False"), default=default)
    assert (config.steps, config.network.kwargs.use_context) == (60, False)
    assert "unknown field config.stepz; did you mean steps?" in error(
        "--config.stepz=3", default=default
    )


def test_is_validated(parsed, error, monkeypatch):
    assert "config.steps must be an integer of at least 1" in error(
        "--config=configs/tiny.py", "--config.steps=0"
    )
    config = parsed("--config=configs/tiny.py")
    monkeypatch.setattr(checks, "find_problems", lambda config: ["checked again"])
    checks.validate_once(config)
    with pytest.raises(ConfigError, match="checked again"):
        validate(config)
    config.steps = 4
    with pytest.raises(ConfigError, match="checked again"):
        checks.validate_once(config)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}['learning_rate']", "line 5: KeyError: 'learning_rate'"),
        ("[].learning_rate", "line 5: AttributeError: 'list' object has no attribute 'learning_r"),
        ("int('many')", "line 5: ValueError: invalid literal for int() with base 10: 'many'"),
        ("open('no such file')", "line 5: FileNotFoundError: [Errno 2] No such file or directory"),
        ("undefined", "line 5: NameError: name 'undefined' is not defined"),
        ("config.stepz += 3", "line 5: AttributeError: "),
        ("helper()", "line 9: RuntimeError: of the helper"),
        ("1 +", ": SyntaxError: invalid syntax (broken.py, line 5)"),
        ("config = {}", "py: get_config() must return a ConfigDict, got {}"),
    ],
)
def test_errors_of_the_config_file(error, tmp_path, line, message):
    file = tmp_path / "broken.py"
    file.write_text(
        f"from configs import default\n\ndef get_config():\n    config = default.get_config()\n"
        f"    {line}\n    return config\n\ndef helper():\n    raise RuntimeError('of the helper')\n"
    )
    for override in ((), ("--config.steps=3",)):
        found = error(f"--config={file}", *override)
        assert found.startswith(str(file))
        assert message in found
        assert "\n" not in found
        assert "no such field" not in found


def test_fields_that_the_file_lacks(error, tmp_path):
    file = tmp_path / "short.py"
    file.write_text("from ml_collections import ConfigDict\nget_config = ConfigDict\n")
    assert "missing field config.network.kwargs" in error(f"--config={file}")
    for name in ("steps", "network.kwargs", "data.train.path"):
        found = error(f"--config={file}", f"--config.{name}=3")
        assert found == (
            f"{file} has no field config.{name}, which the command line sets; start the file from "
            "configs/default.py"
        )
    assert "has no field config.network.kwargs, which" in error(
        f"--config={file}", *kwargs(width=2)
    )
    message = "config.network.name must be one of 'buifd', "
    options = ("--config=configs/tiny.py", "--config.network.name=sadnett", *kwargs(width=2))
    assert error(*options).startswith(message)


def test_names_of_overrides():
    argv = ["a", "--config=x", "--config.a.b=1", "-config.c", "2", "--noconfig.d", "--configs.e"]
    assert _list_overrides(argv) == ["a.b", "c", "d"]


class TestReadConfig:
    @pytest.fixture(autouse=True)
    def in_the_root(self, monkeypatch, request):
        monkeypatch.chdir(request.config.rootpath)

    def test_leaves_the_flags_of_this_process_alone(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["script.py", "--config.steps=1"])
        known = set(flags.FLAGS)
        for seed in (3, 4):
            config = read_config(
                ["--config", "configs/tiny.py", f"--config.seed={seed}", "--workdir", "x",
                 "--config.network.kwargs.use_context=False"]
            )  # fmt: skip
            assert (config.seed, config.network.kwargs.use_context) == (seed, False)
            assert config.steps != 1
        assert set(flags.FLAGS) == known

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--config.seed=1"], "give --config, such as"),
            (["--config=configs/tiny.py", "--config.sed=1"], "unknown field config.sed; did you"),
            (["--config=configs/tiny.py", "--config.seed=-1"], "config.seed must be"),
            (["--config=configs/tiny.py", "--config.seed=x"], "x"),
            (["--config=configs/tinny.py"], "did you mean configs/tiny.py"),
        ],
    )
    def test_mistakes(self, arguments, message):
        with pytest.raises(ConfigError, match=message):
            read_config(arguments)
