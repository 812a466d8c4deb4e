"""IKC: three networks as one, and its training in three stages, from a clean folder to a photo."""

import functools
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

import input_pipeline
from configs import sr_ikc
from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, networks
from lcdnet_jax.networks.ikc import Basis
from lcdnet_jax.training import make_train_step, train_and_evaluate
from lcdnet_jax.training.objectives import ikc as ikc_lib
from lcdnet_jax.training.optimizer import allow_type_promotion
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import TrainState
from lcdnet_jax.training.step import prepare

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STAGES = ("sftmd", "predictor", "corrector")
TINY = {
    **{"scale": 2, "features": 4, "blocks": 1, "iterations": 2},
    **{"code_length": 3, "kernel_size": 5, "width": (0.2, 2.0)},
}
LOW = "degradation.options.low_resolution."


def config_with(stage, **fields):
    config = sr_ikc.get_config(f"{stage}:sfm")
    config.network.kwargs = ConfigDict(TINY)
    config.degradation.options.low_resolution.update({"scale": 2, "width": (0.2, 2.0), "size": 5})
    config.data.crop, config.batch_size, config.steps, config.init_from = 12, 4, 2, ""
    config.log_every, config.eval_every, config.checkpoint_every = 1, 0, 0
    config.eval.panels, config.eval.max_images, config.eval.bucket = 0, 1, 8
    config.update_from_flattened_dict(fields)
    config_lib.validate(config)
    return config


def image(*shape):
    return np.random.default_rng(1).random(shape, np.float32)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# --- The network ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ikc():
    """The network, and parameters as after some training, which make images around gray."""
    module, rng = networks.create("ikc", **TINY), np.random.default_rng(0)

    def draw(leaf):
        return rng.normal(0, np.prod(leaf.shape[-4:-1]) ** -0.5, leaf.shape).astype(np.float32)

    params = jax.tree.map(draw, networks.abstract_variables(module)["params"])
    basis = Basis(TINY["kernel_size"], TINY["code_length"], TINY["width"])
    params["basis"] = basis.init(jax.random.key(0), np.zeros((1, 5, 5), np.float32))["params"]
    params["sftmd"]["conv_output"]["bias"] = np.full(3, 0.5, np.float32)
    return module, params


def state_of(params, tx, *, ema=None):
    return TrainState(jnp.int32(0), params, jax.jit(tx.init)(params), {}, ema)


# --- Configurations -------------------------------------------------------------------------------


def test_each_stage_starts_from_the_one_before():
    for arm in ("", ":sfm"):
        runs = dict(
            re.findall(r"sr_ikc\.py:(\w+:sfm) --workdir (\S+)", sr_ikc.__doc__)
            if arm
            else [(stage, f"runs/ikc_{stage}") for stage in STAGES]
        )
        for before, stage in zip(("", *STAGES), STAGES, strict=False):
            config = sr_ikc.get_config(stage + arm)
            config_lib.validate(config)
            assert config.init_from == (runs[before + arm] if before else "")
            assert config.sfm.rate == (0.5 if arm else 0)
            released = {"sfm.rate": 1.0, "sfm.mode": "random"}
            config.update_from_flattened_dict(released)
            config_lib.validate(config)
    for wrong in ("regular", "sftmd:", "sfm"):
        with pytest.raises(ValueError, match=r"no variant .*; use sftmd, predictor, corrector, or"):
            sr_ikc.get_config(wrong)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"network.name": "rcan", "network.kwargs": ConfigDict({"scale": 2})},
            "'ikc_corrector' and config.network.name 'rcan' do not go together",
        ),
        ({"objective": "supervised"}, "'supervised' and config.network.name 'ikc' do not go"),
        (
            {"degradation.kind": "low_resolution+jpeg"},
            "which config.degradation.kind 'low_resolution.jpeg' does not give; set it to",
        ),
        ({LOW + "kernel": None}, "needs kernels to estimate; set .*low_resolution.kernel to one"),
        ({LOW + "size": 7}, "gives kernels of 7x7 pixels, but .* encodes 5x5; set the"),
        ({LOW + "scale": 4}, "makes 6 pixels of the 3 that config.degradation.kind"),
        ({"degradation.where": "host"}, "is made on the device only"),
        ({"loss": "sse"}, "config.loss 'sse' is not one of the pixel losses of .* 'ikc_corrector'"),
        ({"dct_loss_weight": 1.0}, "is not used by config.objective 'ikc_corrector'; set it to 0"),
        ({"network.kwargs.blocks": 0}, "SFTMD blocks must be|IKC blocks must be an integer"),
    ],
    ids=str,
)
def test_mistakes(fields, message):
    with pytest.raises(config_lib.ConfigError, match=message):
        config_with("corrector", **fields)


def test_kernels_are_asked_for_by_the_objective_alone():
    config = config_with("sftmd")
    config.degradation.options.low_resolution.return_kernels = True
    with pytest.raises(config_lib.ConfigError, match=r"return_kernels follows from .*; remove it"):
        config_lib.validate(config)


# --- Steps ----------------------------------------------------------------------------------------


def batch_of(count=4, size=12):
    return {"clean": image(count, size, size, 3), "mask": np.ones(count, np.float32)}


@pytest.mark.extended
def test_kernels_are_those_that_blurred():
    @functools.partial(jax.jit, static_argnums=1)
    def prepared(step, rate):
        config = config_with("predictor", **{"sfm.rate": rate, "degradation.protocol": "float"})
        batch = prepare(batch_of(), config, step=step, axis_name=None)
        keys = jax.random.split(jax.random.key(0), 4)  # draw nothing: there is no noise
        given = {"scale": 2, "kernels": batch["kernels"]}
        return batch, degradations.low_resolution(keys, batch["clean"], **given)

    batch, expected = prepared(3, 0.0)
    assert batch["kernels"].shape == (4, 5, 5)
    assert abs(batch["kernels"][0] - batch["kernels"][1]).max() > 0.01
    np.testing.assert_allclose(batch["degraded"], expected, rtol=0, atol=1e-6)
    masked, unmasked = prepared(3, 1.0)
    assert_same(masked["kernels"], batch["kernels"])
    assert_same(masked["clean"], batch["clean"])
    assert abs(masked["degraded"] - unmasked).max() > 0.01
    with pytest.raises(ValueError, match="needs the kernels that they were blurred by; leave them"):
        prepare(batch, config_with("predictor"), step=jnp.int32(3), axis_name=None)


def test_there_must_be_kernels_to_return():
    keys = jax.random.split(jax.random.key(0), 4)
    with pytest.raises(ValueError, match="there are no kernels to return, as kernel is None"):
        degradations.random_low_resolution(keys, image(4, 8, 8, 1), scale=2, return_kernels=True)


@pytest.mark.extended
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_changes_its_part_alone(ikc, stage):
    """Though the optimizer would let all parameters decay; and it learns."""
    module, params = ikc
    if stage == "sftmd":
        output = {**params["sftmd"]["conv_output"], "bias": np.zeros(3, np.float32)}  # too dark
        params = {**params, "sftmd": {**params["sftmd"], "conv_output": output}}
    config, tx = config_with(stage), allow_type_promotion(optax.adamw(1e-2, weight_decay=0.1))
    step = jax.jit(make_train_step(module, tx, config))
    state, seen = state_of(params, tx), []
    for _ in range(8):  # with the same kernels and masks
        state, metrics = step(state.replace(step=jnp.int32(0)), batch_of())
        seen.append(metrics)
    for name in params:
        moved = jax.tree.map(lambda a, b: abs(a - b).max(), params[name], state.params[name])
        largest = max(jax.tree.leaves(moved))
        assert largest > 1e-3 if name == stage else largest == 0, name
    assert seen[-1]["loss"] < 0.95 * seen[0]["loss"]
    named = {"loss", "psnr", "grad_norm", "learning_rate"}
    assert set(seen[0]) == (named if stage == "sftmd" else {*named, "code_error"})


@pytest.mark.extended
def test_code_error_is_the_mean_of_roots(ikc):
    module, params = ikc
    config = config_with("corrector")

    @jax.jit
    def measured(params):
        batch = prepare(batch_of(), config, step=jnp.int32(0), axis_name=None)
        batch = {**batch, "mask": jnp.array([1.0, 1.0, 0.0, 0.0])}
        apply = functools.partial(module.apply, {"params": params})
        codes = apply(batch["degraded"], method="codes")
        truth = apply(batch["kernels"], method="encode")
        state = TrainState(jnp.int32(0), params, (), {}, None)
        loss, output = ikc_lib.make_loss(module, config)(params, state, batch)
        return codes - truth[None], {"loss": loss, **output.metrics}

    errors, metrics = jax.device_get(measured(params))
    squares = errors.astype(np.float64)[1:, :2] ** 2  # of the corrections, without padding
    np.testing.assert_allclose(metrics["loss"], squares.mean(), rtol=1e-5)
    expected = np.sqrt(squares[-1].mean(axis=-1)).mean()
    np.testing.assert_allclose(metrics["code_error"], expected, rtol=1e-5)


@pytest.mark.extended
@pytest.mark.slow
def test_one_step_on_two_devices_is_that_of_one(ikc):
    """By pmap, each device with its images in two parts."""
    config, tx = config_with("corrector"), optax.sgd(0.1)
    start = jax.device_get(state_of(ikc[1], tx, ema=ikc[1]))
    results = []
    for strategy, devices in (("jit", 1), ("pmap", 2)):
        config.parallel.strategy, config.accumulate = strategy, devices
        partitioner = Partitioner.from_config(config, jax.devices()[:devices])
        placed = partitioner.to_program_sharding(
            jax.device_put(start, partitioner.get_state_sharding(start))
        )
        program = compile_program(ikc[0], tx, config, partitioner, placed)
        results.append(jax.device_get(program(placed, partitioner.put_batches([batch_of()]))))
    (state, metrics), (other, measured) = results
    moved = jax.tree.map(lambda a, b: abs(a - b).max(), start.params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-4
    same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(same, (other.params, other.ema), (state.params, state.ema))
    for name, value in metrics.items():
        np.testing.assert_allclose(measured[name], value, rtol=1e-4, err_msg=name)


# --- Runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(noise_photos):
    return noise_photos(*[(16, 18, 3)] * 3)


@pytest.mark.extended
@pytest.mark.slow
def test_one_stage_after_another_and_a_cut_that_changes_no_bit(photos, tmp_path, capsys):
    def run(stage, workdir, **fields):
        config = config_with(stage, **{"data.where": "device", "ema_decay": 0.9}, **fields)
        for split in ("train", "eval"):
            config.data[split].path = str(photos)
        datasets = input_pipeline.create_datasets(config)
        devices = jax.devices()[:1]
        return train_and_evaluate(config, tmp_path / workdir, datasets=datasets, devices=devices)

    def rows_of(workdir):
        lines = (tmp_path / workdir / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    before = run("predictor", "predictor").ema  # what others start from
    earlier = {"init_from": str(tmp_path / "predictor")}
    straight = run("corrector", "straight", **earlier, steps=4, checkpoint_every=2)
    for name, of in straight.params.items():
        if name != "corrector":
            assert_same(of, before[name])
    moved = jax.tree.map(
        lambda a, b: abs(a - b).max(), straight.params["corrector"], before["corrector"]
    )
    assert max(jax.tree.leaves(moved)) > 0
    measured = {name for row in rows_of("straight") for name in row}
    assert {"train/code_error", "train/psnr", "eval/psnr"} <= measured

    cut = shutil.copytree(tmp_path / "straight", tmp_path / "cut")
    shutil.rmtree(cut / "checkpoints/4")
    assert_same(run("corrector", "cut", **earlier, steps=4, checkpoint_every=2), straight)
    assert "continuing after step 2 of " in capsys.readouterr().out
