"""Combinations of fields, and the order in which their runs are made."""

import os
import pathlib
import re
import shlex
import signal
import sys
import threading

import pytest

from benchmarks import sweep
from lcdnet_jax.config import ConfigError

# ml_collections loads config files in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def list_runs(*vary, others=()):
    return sweep.list_runs("configs/tiny.py", "my runs", vary, others)


class TestCombinations:
    def test_the_first_field_changes_slowest(self):
        runs = list_runs(
            "optimizer.learning_rate=1e-4,2e-4", "seed=0, 1", others=["--deterministic"]
        )
        assert [run.name for run in runs] == [
            "learning_rate=1e-4,seed=0",
            "learning_rate=1e-4,seed=1",
            "learning_rate=2e-4,seed=0",
            "learning_rate=2e-4,seed=1",
        ]
        assert runs[3].arguments == [
            "--config", "configs/tiny.py", "--deterministic",
            "--config.optimizer.learning_rate=2e-4", "--config.seed=1",
            "--workdir", "my runs/learning_rate=2e-4,seed=1",
        ]  # fmt: skip

    def test_values_with_commas_and_fields_that_go_together(self):
        runs = list_runs(
            "degradation.sigma_min+degradation.sigma_max=15,25", "eval.sigmas=(15,);(15,25)"
        )
        assert runs[1].name == "sigma_min+sigma_max=15,sigmas=(15,25)"
        assert runs[1].arguments[2:5] == [
            "--config.degradation.sigma_min=15",
            "--config.degradation.sigma_max=15",
            "--config.eval.sigmas=(15,25)",
        ]

    def test_names_of_folders(self):
        paths = "data.train.path=/data/a b,/data/c", "data.eval.path=/data/d"
        assert [run.name for run in list_runs(*paths)] == [
            "data.train.path=%2Fdata%2Fa%20b,data.eval.path=%2Fdata%2Fd",
            "data.train.path=%2Fdata%2Fc,data.eval.path=%2Fdata%2Fd",
        ]
        (run,) = list_runs(f"data.train.path={'x' * 300}")
        assert len(run.name) <= 255

    @pytest.mark.parametrize(
        ("vary", "others", "message"),
        [
            (["sed=1,2"], [], "sed=1: unknown field config.sed; did you mean seed"),
            (["seed=0,-1"], [], "seed=-1: config.seed must be"),
            (["accumulate=1,3"], [], r"accumulate=3: config.batch_size \(\d+\) is not divisible"),
            (["seed"], [], "'seed' is not FIELD=VALUE,VALUE,..."),
            (["seed=1,"], [], "is not FIELD=VALUE"),
            (["=1"], [], "is not FIELD=VALUE"),
            (["optimizer.learning_rate=1e-4,0.0001"], [], "learning_rate=1e-4 and .* are the same"),
            (["seed=1", "seed=2"], [], "config.seed is set twice"),
            (["seed=1,2"], ["--config.seed=3"], "config.seed is set twice"),
        ],
    )
    def test_mistakes(self, vary, others, message):
        with pytest.raises(ConfigError, match=message):
            list_runs(*vary, others=others)


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Replaces train.py by a program that notes its arguments and then runs some code."""

    def train(code=""):
        script = tmp_path / "train.py"
        note = f"import sys; print(*sys.argv[1:], file=open({str(log)!r}, 'a'))"
        script.write_text(f"{note}\n{code}\n")
        monkeypatch.setattr(sweep, "_TRAIN", str(script))
        return log

    log = tmp_path / "log"
    return train


def make_runs(*names):
    return [sweep.Run(name, ["--workdir", name]) for name in names]


class TestRunAll:
    def test_a_failed_run_does_not_stop_the_others(self, train, capfd):
        log = train("sys.exit('error: no') if sys.argv[2] == 'b' else None")
        assert sweep.run_all(make_runs("a", "b", "c")) == 1
        assert log.read_text().split() == ["--workdir", "a", "--workdir", "b", "--workdir", "c"]
        out, err = capfd.readouterr()
        assert out.splitlines() == ["[1/3] a", "[2/3] b", "[3/3] c"]
        assert err.splitlines() == ["error: no", "1 of 3 runs failed: b (exit code 1)"]
        train()
        assert sweep.run_all(make_runs("a", "c")) == 0

    @pytest.mark.parametrize("code", [130, 143])
    def test_a_preempted_run_stops_the_sweep(self, train, code):
        log = train(f"sys.exit({code})")
        assert sweep.run_all(make_runs("a", "b")) == code
        assert log.read_text().split() == ["--workdir", "a"]

    @pytest.mark.parametrize(("number", "end"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_signal_waits_for_the_run(self, train, tmp_path, number, end):
        """SIGTERM goes on to the run; a terminal sends Ctrl-C to both."""
        saved = tmp_path / "saved"
        wait = "signal.pause()" if number == signal.SIGTERM else "time.sleep(0.5)"
        log = train(
            "import pathlib, signal, time\n"
            f"def save(*_): pathlib.Path({str(saved)!r}).touch(); sys.exit(143)\n"
            "signal.signal(signal.SIGTERM, save)\n"
            f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
            f"{wait}"
        )

        def send():
            while not (tmp_path / "ready").exists():
                pause.wait(0.02)
            os.kill(os.getpid(), number)

        pause = threading.Event()
        handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        sender = threading.Thread(target=send)
        sender.start()
        assert sweep.run_all(make_runs("a", "b")) == end
        sender.join()
        assert saved.exists() == (number == signal.SIGTERM)
        assert log.read_text().split() == ["--workdir", "a"]
        assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


class TestProgram:
    def main(self, monkeypatch, *arguments):
        command = ["--config", "configs/tiny.py", "--workdir", "my runs", *arguments]
        monkeypatch.setattr(sys, "argv", ["sweep", *command])
        sweep.main()

    def test_print(self, monkeypatch, capsys):
        vary = ("--vary", "seed=0,1", "--config.data.train.path=a b", "--print")
        self.main(monkeypatch, *vary)
        first, second = capsys.readouterr().out.splitlines()
        assert second == (
            "python train.py --config configs/tiny.py '--config.data.train.path=a b' "
            "--config.seed=1 --workdir 'my runs/seed=1'"
        )
        self.main(monkeypatch, *vary, "--index", "0")
        assert capsys.readouterr().out == first + "\n"

    def test_index_becomes_the_run(self, monkeypatch):
        called = []
        monkeypatch.setattr(os, "execv", lambda *arguments: called.append(arguments))
        self.main(monkeypatch, "--vary", "seed=0,1", "--index=1")
        ((program, arguments),) = called
        assert program == arguments[0] == sys.executable
        assert arguments[1] == str(sweep._TRAIN)
        assert arguments[-1] == "my runs/seed=1"

    def test_runs_all(self, monkeypatch, train):
        log = train()
        with pytest.raises(SystemExit) as end:
            self.main(monkeypatch, "--vary", "seed=0,1")
        assert end.value.code == 0
        assert len(log.read_text().splitlines()) == 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--vary", "seed=0,1", "--index", "2"], "--index 2 is not one of the runs 0 to 1"),
            (["--vary", "seed=0,-1"], "error: seed=-1: config.seed must be"),
        ],
    )
    def test_mistakes_start_nothing(self, monkeypatch, train, arguments, message):
        log = train()
        with pytest.raises(SystemExit, match=message):
            self.main(monkeypatch, *arguments)
        assert not log.exists()


ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["docs/how_to/clusters.md", "scripts/slurm.sbatch"])
def test_commands_that_are_shown(monkeypatch, capsys, name):
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found = re.findall(r"(?:benchmarks\.sweep|sbatch .*slurm\.sbatch) (--config.*--vary.*)", text)
    assert found
    for command in found:
        monkeypatch.setattr(sys, "argv", ["sweep", *shlex.split(command), "--print"])
        sweep.main()
        assert len(capsys.readouterr().out.splitlines()) == 6  # --array=0-5
