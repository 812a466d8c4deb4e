"""The scripts of scripts/, with stand-ins for the programs that they call."""

import itertools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "scripts").iterdir())
SHELL_SCRIPTS = [path for path in SCRIPTS if path.suffix != ".yaml"]
JOBSET = ROOT / "scripts" / "gke_jobset.yaml"

# Appends the call to a file, then does what the test asks for.
STAND_IN = """#!/bin/bash
printf '%s\\0' "${{0##*/}}" "$@" >> "$CALLS"
printf '\\1' >> "$CALLS"
{body}
"""

SPACES = ["--config", "my configs/a.py", '--config.data.train.path=/data/it\'s $HOME; "b" *']


class Shell:
    """Runs commands in a clone whose path has spaces, with stand-ins on PATH."""

    def __init__(self, folder):
        self.clone = folder / "my clone"
        self.clone.mkdir()
        shutil.copytree(ROOT / "scripts", self.clone / "scripts")
        (self.clone / "train.py").touch()
        self._bin = folder / "my bin"
        self._bin.mkdir()
        self._calls = folder / "calls"
        self._environment = {"PATH": f"{self._bin}:{os.environ['PATH']}", "CALLS": self._calls}
        self._environment |= {"HOME": str(folder)}

    def add(self, program, body=""):
        path = self._bin / program
        path.write_text(STAND_IN.format(body=body))
        path.chmod(0o755)

    def run(self, *command, cwd=None, **environment):
        """Runs a command. Returns the calls of stand-ins."""
        self._calls.unlink(missing_ok=True)
        self.result = subprocess.run(
            command, cwd=cwd or self.clone, env=self._environment | environment, text=True,
            capture_output=True,
        )  # fmt: skip
        calls = self._calls.read_text() if self._calls.exists() else ""
        return [call.split("\0")[:-1] for call in calls.split("\1")[:-1]]


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


def read_header(path):
    """The comment at the top of a script, without the line that names the shell."""
    lines = path.read_text().splitlines()
    if lines[0].startswith("#!"):
        del lines[0]
    header = itertools.takewhile(lambda line: re.match("#( |$)", line), lines)
    return [line[2:] for line in header]


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_no_arrays(path):
    """With ``set -u``, the Bash 3.2 of macOS ends where an array is empty."""
    assert "[@]" not in path.read_text()


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(path):
    program = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.defpath}")
    program = program or shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    found = subprocess.run([program, path], capture_output=True, text=True)
    assert (found.stdout, found.returncode) == ("", 0)


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_header_explains_every_variable(path):
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", path.read_text()))
    used -= {name for name in used if name.startswith(("SLURM_", "BASH_"))}
    header = "\n".join(read_header(path))
    explained = set(re.findall(r"^  ([A-Z][A-Z_]+) ", header, re.MULTILINE))
    assert used == explained


class TestGPU:
    def add_gpus(self, shell, names="GPU 0: NVIDIA H200\\nGPU 1: NVIDIA H200\\n"):
        shell.add("nvidia-smi", f"printf '{names}'")
        shell.add(
            "python", 'printf \'%s|\' "${CUDA_VISIBLE_DEVICES-all}" "$JAX_PLATFORMS"; exit 143'
        )

    def test_runs_train_with_the_arguments_and_its_exit_code(self, shell, tmp_path):
        self.add_gpus(shell)
        calls = shell.run(str(shell.clone / "scripts" / "gpu.sh"), *SPACES, cwd=tmp_path)
        assert calls == [
            ["nvidia-smi", "--list-gpus"],
            ["python", f"{shell.clone}/train.py", *SPACES],
        ]
        assert shell.result.returncode == 143
        assert shell.result.stdout.endswith("GPU 1: NVIDIA H200\nall|cuda,cpu|")

    def test_some_gpus_and_another_interpreter(self, shell):
        self.add_gpus(shell)
        shell.add("my python", 'printf "$CUDA_VISIBLE_DEVICES"')
        calls = shell.run("scripts/gpu.sh", GPUS="0,1", PYTHON="my python")
        assert calls[1:] == [["my python", f"{shell.clone}/train.py"]]
        assert shell.result.stdout.endswith("\n0,1")

    @pytest.mark.parametrize("present", [True, False])
    def test_without_a_gpu(self, shell, present):
        self.add_gpus(shell, names="")
        shell.add("nvidia-smi", "" if present else "exit 9")
        assert shell.run("scripts/gpu.sh", *SPACES) == [["nvidia-smi", "--list-gpus"]]
        assert shell.result.returncode == 1
        assert shell.result.stderr.startswith("error: nvidia-smi finds no GPU; ")


class TestSlurm:
    ARRAY = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}  # noqa: RUF012

    def run(self, shell, *arguments, code=0, **environment):
        shell.add("srun", f"exit {code}")
        shell.add("scontrol")
        return shell.run("scripts/slurm.sbatch", *arguments, **environment)

    def test_a_run(self, shell):
        calls = self.run(shell, *SPACES, SLURM_JOB_ID="7")
        assert calls == [["srun", "--kill-on-bad-exit=0", "python", "train.py", *SPACES]]
        assert shell.result.returncode == 0

    def test_processors_and_interpreter(self, shell):
        settings = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "12", "PYTHON": "my python"}
        (call,) = self.run(shell, **settings)
        assert call[2:] == ["--cpus-per-task=12", "my python", "train.py"]

    def test_a_preempted_run_is_queued_again(self, shell):
        calls = self.run(shell, code=143, SLURM_JOB_ID="7")
        assert calls[1:] == [["scontrol", "requeue", "7"]]
        assert shell.result.returncode == 143

    @pytest.mark.parametrize("code", [75, 137])
    def test_a_run_that_lost_a_task_is_queued_again_ten_times(self, shell, code):
        """75 is the code of the tasks that are left, 137 that of a task that was killed."""
        again = [["scontrol", "requeue", "7"]]
        for restarts, limit, calls in [
            ({}, {}, again),
            ({"SLURM_RESTART_COUNT": "9"}, {}, again),
            ({"SLURM_RESTART_COUNT": "10"}, {}, []),
            ({"SLURM_RESTART_COUNT": "2"}, {"RESTARTS": "2"}, []),
            ({}, {"RESTARTS": "0"}, []),
        ]:
            assert self.run(shell, code=code, SLURM_JOB_ID="7", **restarts, **limit)[1:] == calls
            assert shell.result.returncode == code

    @pytest.mark.parametrize("code", [1, 130, 134])
    def test_a_failed_run_is_not(self, shell, code):
        assert len(self.run(shell, code=code, SLURM_JOB_ID="7")) == 1
        assert shell.result.returncode == code

    def test_a_task_of_an_array(self, shell):
        vary = ("--vary", "seed=0,1,2,3")
        calls = self.run(shell, *SPACES, *vary, code=143, **self.ARRAY)
        sweep = ["-m", "benchmarks.sweep", "--index", "3", *SPACES, *vary]
        assert calls == [
            ["srun", "--kill-on-bad-exit=0", "python", *sweep],
            ["scontrol", "requeue", "7_3"],
        ]

    def test_a_canceled_job_is_not_queued_again(self, shell):
        """scancel sends SIGTERM to the script, too; the one before the time limit does not."""
        shell.add("srun", "kill -TERM $PPID; exit 143")
        shell.add("scontrol")
        calls = shell.run("scripts/slurm.sbatch", SLURM_JOB_ID="7")
        assert [call[0] for call in calls] == ["srun"]

    def test_options(self):
        text = (ROOT / "scripts" / "slurm.sbatch").read_text()
        options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.MULTILINE))
        assert options["ntasks-per-node"] == options["gpus-per-node"]
        assert options["signal"] == "TERM@300"  # "B:" would signal the script instead
        assert {"requeue", "open-mode"} <= set(options)
        commands = re.search(r"^[^#\n]", text, re.MULTILINE)
        assert text.rindex("#SBATCH --") < commands.start()  # later ones are ignored


class TestTPU:
    SETTINGS = {"NAME": "t", "ZONE": "us-west4-a"}  # noqa: RUF012

    def run(self, shell, *arguments, **environment):
        return shell.run("scripts/tpu.sh", *arguments, **(self.SETTINGS | environment))

    def gcloud(self, shell, *arguments, body="", **environment):
        """The only call of gcloud, without what all have in common."""
        shell.add("gcloud", body)
        calls = self.run(shell, *arguments, **environment)
        assert shell.result.returncode == 0, shell.result.stderr
        assert all("--zone=us-west4-a" in call for call in calls)
        return [[part for part in call if part != "--zone=us-west4-a"][3:] for call in calls]

    @pytest.mark.parametrize(
        ("kind", "version"),
        [
            ("v4-8", "tpu-ubuntu2204-base"),
            ("v5litepod-16", "v2-alpha-tpuv5-lite"),
            ("v5p-8", "v2-alpha-tpuv5"),
            ("v6e-4", "v2-alpha-tpuv6e"),
        ],
    )
    def test_create(self, shell, kind, version):
        (call,) = self.gcloud(shell, "create", TYPE=kind)
        wanted = [f"--accelerator-type={kind}", f"--version={version}"]
        assert call == ["tpu-vm", "create", "t", *wanted]

    def test_create_spot(self, shell):
        (call,) = self.gcloud(shell, "create", TYPE="v9-8", VERSION="new", SPOT="1")
        assert call[3:] == ["--accelerator-type=v9-8", "--version=new", "--spot"]

    def test_create_queued_waits(self, shell, tmp_path):
        body = f"""
if [ "$4" = describe ]; then
    [ -e "{tmp_path}/asked" ] && echo ACTIVE || echo WAITING_FOR_RESOURCES
    touch "{tmp_path}/asked"
fi"""
        settings = {"TYPE": "v6e-8", "QUEUED": "1", "SPOT": "1", "WAIT": "0"}
        create, *asked = self.gcloud(shell, "create", body=body, **settings)
        assert create == [
            "queued-resources", "create", "t", "--node-id=t", "--accelerator-type=v6e-8",
            "--runtime-version=v2-alpha-tpuv6e", "--spot",
        ]  # fmt: skip
        assert asked == 2 * [["queued-resources", "describe", "t", "--format=value(state.state)"]]

    @pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
    def test_a_request_that_ends(self, shell, state):
        shell.add("gcloud", f'[ "$4" = create ] || echo {state}')
        self.run(shell, "create", TYPE="v6e-8", QUEUED="1")
        assert shell.result.returncode == 1
        assert shell.result.stderr.startswith("error: the request ended")

    def git(self, shell, *arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=shell.clone, check=True)

    def test_install(self, shell, tmp_path):
        self.git(shell, "init", "--quiet")
        self.git(shell, "add", "train.py", "scripts")
        self.git(shell, "commit", "--quiet", "--message=a")
        remote = tmp_path / "my home"
        remote.mkdir()
        shell.add("python3")
        # Copies the file, or runs the command as the shell of the VM would.
        body = f"""
cd "{remote}"
last="${{*: -1}}"
[ "$4" = scp ] && cp "$5" . || eval "${{last#--command=}}"
"""
        shell.add("gcloud", body)
        calls = self.run(shell, "install")
        assert shell.result.returncode == 0, shell.result.stderr
        copy, command, *pythons = calls
        assert copy[4:5] == ["scp"]
        assert copy[6:] == ["t:", "--zone=us-west4-a", "--worker=all"]
        assert "--worker=all" in command
        assert (remote / "lcdnet_jax" / "scripts" / "tpu.sh").exists()
        assert [call[1:4] for call in pythons] == [
            ["-m", "pip", "install"], ["-m", "uv", "venv"], ["-m", "uv", "pip"],
        ]  # fmt: skip
        assert pythons[-1][-2:] == ["--editable", ".[train,tpu,gcs]"]
        assert not pathlib.Path(copy[5]).parent.exists()  # nothing is left here
        (shell.clone / "train.py").write_text("changed")
        assert self.run(shell, "install") == []
        assert "commit your changes first" in shell.result.stderr

    def test_run_quotes_the_arguments(self, shell, tmp_path):
        (call,) = self.gcloud(shell, "run", *SPACES)
        assert call[:4] == ["tpu-vm", "ssh", "t", "--worker=all"]
        command = call[4].removeprefix("--command=")
        python = tmp_path / "lcdnet_jax" / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(STAND_IN.format(body='printf "$JAX_PLATFORMS"'))
        python.chmod(0o755)
        calls = shell.run("bash", "-c", command, cwd=tmp_path)
        assert calls == [["python", "train.py", "--distributed=on", *SPACES]]
        assert shell.result.stdout == "tpu,cpu"

    def test_stop_does_not_stop_its_own_shell(self, shell):
        (call,) = self.gcloud(shell, "stop")
        command = call[-1].removeprefix("--command=")
        assert shlex.split(command)[:3] == ["pkill", "-TERM", "-f"]
        pattern = shlex.split(command)[3]
        assert re.search(pattern, ".venv/bin/python train.py --distributed=on")
        assert not re.search(pattern, f"bash -c {command}")

    def test_fetch_and_delete(self, shell):
        (call,) = self.gcloud(shell, "fetch", "runs/my run")
        assert call == ["tpu-vm", "scp", "--recurse", "t:lcdnet_jax/runs/my run", ".", "--worker=0"]
        (call,) = self.gcloud(shell, "delete")
        assert call == ["tpu-vm", "delete", "t", "--quiet"]
        (call,) = self.gcloud(shell, "delete", QUEUED="1")
        assert call == ["queued-resources", "delete", "t", "--force", "--quiet"]

    @pytest.mark.parametrize(
        ("arguments", "settings", "message"),
        [
            ([], {}, "unknown action ''; give create, install, run"),
            (["destroy"], {}, "unknown action 'destroy'"),
            (["run"], {}, "give the arguments of train.py"),
            (["create"], {}, "set TYPE, such as"),
            (["create"], {"TYPE": "v9-8"}, "set VERSION, the runtime version for v9-8"),
            (["delete"], {"NAME": ""}, "set NAME"),
            (["delete"], {"ZONE": ""}, "set ZONE"),
        ],
    )
    def test_mistakes_call_nothing(self, shell, arguments, settings, message):
        shell.add("gcloud")
        assert self.run(shell, *arguments, **settings) == []
        assert shell.result.returncode == 1
        assert message in shell.result.stderr


class TestJobSet:
    @pytest.fixture(params=["TPU", "GPU"])
    def kind(self, request):
        return request.param

    @pytest.fixture
    def jobset(self, shell, kind):
        """The template, or for GPUs what the command in its header makes of it."""
        if kind == "TPU":
            return yaml.safe_load(JOBSET.read_text())
        (command,) = (line for line in read_header(JOBSET) if line.startswith("  sed "))
        shell.run("bash", "-c", command)
        return yaml.safe_load((shell.clone / "gpu.yaml").read_text())

    @pytest.fixture
    def pod(self, jobset):
        return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]

    def test_resources(self, pod, kind):
        (container,) = pod["containers"]
        (resource,) = container["resources"]["limits"]
        assert resource == {"TPU": "google.com/tpu", "GPU": "nvidia.com/gpu"}[kind]
        assert all(("tpu" in name) == (kind == "TPU") for name in pod["nodeSelector"])
        platforms = {"TPU": "tpu,cpu", "GPU": "cuda,cpu"}[kind]
        assert container["env"] == [{"name": "JAX_PLATFORMS", "value": platforms}]

    def test_command(self, jobset, pod, kind):
        job = jobset["spec"]["replicatedJobs"][0]
        command = pod["containers"][0]["command"]
        assert command[:3] == ["python", "train.py", "--config=configs/lcdnet_gopro.py"]
        assert (ROOT / "configs" / "lcdnet_gopro.py").exists()
        name = jobset["metadata"]["name"]
        given = [text for text in command if text.startswith(("--coordinator", "--process"))]
        joining = [
            f"--coordinator={name}-{job['name']}-0-0.{name}:9876",
            f"--processes={job['template']['spec']['parallelism']}",
            "--process_index=$(JOB_COMPLETION_INDEX)",
        ]
        assert given == (joining if kind == "GPU" else [])

    def test_restarts(self, jobset, pod):
        """143 and lost nodes fail the job for a reason that restarts it without a count."""
        job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
        assert job["parallelism"] == job["completions"]
        assert (job["completionMode"], job["backoffLimit"]) == ("Indexed", 0)
        assert pod["restartPolicy"] == "Never"  # podFailurePolicy needs it
        lost, preempted = job["podFailurePolicy"]["rules"]
        assert {lost["action"], preempted["action"]} == {"FailJob"}
        assert lost["onPodConditions"] == [{"type": "DisruptionTarget"}]
        assert preempted["onExitCodes"] == {
            "containerName": pod["containers"][0]["name"], "operator": "In", "values": [143],
        }  # fmt: skip
        policy = jobset["spec"]["failurePolicy"]
        assert policy["maxRestarts"] == 3
        assert policy["rules"] == [
            {
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureReasons": ["PodFailurePolicy"],
            }
        ]

    def test_volumes(self, pod):
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples(shell, path):
    """The lines that the headers give, as a user copies them."""
    for program in ("python", "nvidia-smi", "gcloud", "srun", "kubectl"):
        shell.add(program, "echo GPU 0")
    # Leaves out the options, and runs the batch script.
    shell.add("sbatch", 'while [[ "$1" == --* ]]; do shift; done; bash "$@"')
    header = read_header(path)
    lines = [re.fullmatch("(?:Example|Sweep): (.*)", line) for line in header]
    examples = [line[1] for line in lines if line]
    assert examples
    wanted = {
        "gpu.sh": ["python", f"{shell.clone}/train.py", "--config", "configs/lcdnet_gopro.py"],
        "slurm.sbatch": ["srun", "--kill-on-bad-exit=0", "python", "train.py", "--config"],
        "tpu.sh": ["gcloud", "compute", "tpus", "tpu-vm", "create", "gopro"],
        "gke_jobset.yaml": ["kubectl", "apply", "--filename", "scripts/gke_jobset.yaml"],
    }[path.name]
    for example in examples:
        array = TestSlurm.ARRAY if "--array" in example else {}
        calls = shell.run("bash", "-c", example, **({"SLURM_JOB_ID": "9"} | array))
        assert shell.result.returncode == 0, shell.result.stderr
        if array:
            assert calls[-1][2:7] == ["python", "-m", "benchmarks.sweep", "--index", "3"]
        else:
            assert calls[-1][: len(wanted)] == wanted
