"""Writes artifacts/ anew: ``python -m tests.guards.make_artifacts``, from the root.

Do not run it to make a failing test pass: the artifacts are files of an earlier version, which
every later one must read. It is here to show how they were made, and to add further ones.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import jax
import numpy as np

from tests.guards import artifact_cases, guarded, records, stand_in_torch

DNCNN = {"depth": 3, "features": 4}


def drawn(name, **kwargs):
    """Variables of a network: initial ones, changed so that each number matters."""
    module = guarded.networks.create(name, **kwargs)
    x = np.zeros((1, 8, 8, module.channels), np.float32)
    rng = np.random.default_rng(0)

    def changed(leaf):
        return np.asarray(leaf) + 0.1 * rng.standard_normal(leaf.shape, np.float32)

    leaves, structure = jax.tree.flatten(jax.jit(module.init)(jax.random.key(0), x))
    return jax.tree.unflatten(structure, [changed(leaf) for leaf in leaves])


def main():
    """Makes them elsewhere, since some files hold the path where they were written."""
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder))
        shutil.rmtree(artifact_cases.ARTIFACTS, ignore_errors=True)
        shutil.copytree(folder, artifact_cases.ARTIFACTS)


def write(folder):
    """Each format, by the commands that users give where there is one."""
    (folder / ".gitattributes").write_text("* -text\n")

    config = artifact_cases.config()
    workdir = folder / "workdir"
    guarded.train_and_evaluate(
        config, workdir, datasets=artifact_cases.datasets(config), devices=jax.devices()[:1]
    )
    for path in workdir.iterdir():
        if path.name not in ("config.json", "checkpoints", "metrics.jsonl"):
            path.unlink()

    stand_in_torch.write_pth(
        folder / "dncnn.pth",
        guarded.convert.to_torch("dncnn", drawn("dncnn", **DNCNN), **DNCNN),
    )
    fields = [f"{name}={value}" for name, value in DNCNN.items()]
    sys.modules["torch"] = stand_in_torch.module()
    guarded.cli.main(
        ["convert", "dncnn", str(folder / "dncnn.pth"), "-o", str(folder / "converted"),
         "--set", *fields]
    )  # fmt: skip
    del sys.modules["torch"]

    def export(source, target, *options):
        guarded.cli.main(["export", str(folder / source), "-o", str(folder / target),
                          *options])  # fmt: skip

    export("workdir", "exported", "--licence", "CC0", "--notes", "a trial")
    export("workdir", "dncnn.safetensors", "--dtype", "bfloat16")
    preset = artifact_cases.SADNET
    guarded.save_safetensors(
        guarded.create_weights("sadnet", drawn("sadnet", **preset), **preset),
        folder / "sadnet.safetensors",
    )
    export("sadnet.safetensors", "sadnet.jaxprog")
    export("dncnn.safetensors", "dncnn.jaxprog", "--platforms", "cpu")

    for name in artifact_cases.WEIGHTS:
        x = artifact_cases.image(name)
        restorer = guarded.Restorer.from_checkpoint(folder / name)
        weights = records.summary(guarded.load_weights(folder / name).variables)["sha256"]
        np.savez_compressed(
            folder / f"{name}.npz", input=x, output=restorer(x), weights=np.array(weights)
        )
    for name in artifact_cases.PROGRAMS:
        x = artifact_cases.image(name)[None]
        program = guarded.run_exported.load(folder / name)
        np.savez_compressed(folder / f"{name}.npz", input=x, output=program(x))

    # config.json as the first versions wrote it.
    stored = json.loads((workdir / "config.json").read_text())
    old = artifact_cases.as_first_stored(stored)
    (folder / "old_config").mkdir()
    (folder / "old_config" / "config.json").write_text(
        json.dumps(old, indent=2, sort_keys=True) + "\n"
    )
    loaded = guarded.load_config(folder / "old_config" / "config.json")
    text = json.dumps(loaded.to_dict(), indent=1, sort_keys=True)
    (folder / "old_config.expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
