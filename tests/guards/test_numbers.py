"""Initial parameters, outputs and short trainings give the numbers that numbers.json records."""

import json
import os

import jax
import numpy as np
import pytest

from tests.guards import cases, guarded, records
from tests.guards.cases import NETWORKS, SLOW, TRAININGS

FILE = "numbers.json"
RECORDED = records.read(FILE)

# Shares of the norm of a leaf. Initialization differs by rounding alone. Adam enlarges rounding.
INITIAL, OUTPUT, TRAINED = 1e-6, 1e-5, 1e-3


# Trainings that enlarge rounding at every step: the two networks of an adversarial training answer
# each other. On another processor only the losses of the first steps are compared.
CHAOTIC = {"gan": 3}


# Not the marker "slow" alone, which comes with other XLA flags and so without SHA-256.
ALL = records.RECORD or {"LCDNET_JAX_ALL_GUARDS", "LCDNET_JAX_SLOW_TESTS"} & set(os.environ)


def quick_and_slow(names):
    """Parameters of a test. Compiling the slow ones takes 10 seconds or more."""
    skip = pytest.mark.skipif(not ALL, reason="slow; set LCDNET_JAX_ALL_GUARDS=1 to run it")
    return [pytest.param(name, marks=skip if name in SLOW else ()) for name in names]


@pytest.fixture(scope="module", autouse=True)
def recording():
    """Writes the file after all tests of this module, where record.py runs them."""
    yield
    if records.RECORD:
        known = {"networks": NETWORKS, "pytorch": NETWORKS, "training": TRAININGS}
        kept = {part: {k: v for k, v in RECORDED.get(part, {}).items() if k in known[part]}
                for part in known}  # fmt: skip
        records.write(FILE, {"environment": records.environment(), **kept})


def check(part, name, found, tolerances):
    """Compares all summaries of a case, or records them."""
    if records.RECORD:
        RECORDED.setdefault(part, {})[name] = found
        return
    recorded = RECORDED[part][name]
    assert sorted(found) == sorted(recorded)
    if name in CHAOTIC and RECORDED["environment"] != records.environment():
        steps = CHAOTIC[name]
        for loss, numbers in found["losses"].items():
            expected = recorded["losses"][loss]
            np.testing.assert_allclose(numbers[:steps], expected[:steps], rtol=5e-3, err_msg=loss)
        return
    for what, value in found.items():
        if what in tolerances:
            records.assert_same(
                value,
                recorded[what],
                tolerance=tolerances[what],
                recorded_environment=RECORDED["environment"],
            )
        elif what == "losses":
            assert sorted(value) == sorted(recorded[what])
            for loss, numbers in value.items():
                expected = recorded[what][loss]
                np.testing.assert_allclose(numbers[:1], expected[:1], rtol=1e-4, err_msg=loss)
                np.testing.assert_allclose(numbers, expected, rtol=5e-3, err_msg=loss)
        else:
            assert value == recorded[what], what


def test_every_network_is_guarded():
    assert sorted(NETWORKS) == sorted(guarded.networks.available())


@pytest.mark.extended
@pytest.mark.parametrize("name", quick_and_slow(NETWORKS))
def test_network(name):
    """Parameters for key 0, and the output with these slightly changed."""
    module = guarded.networks.create(name, **NETWORKS[name])
    x = cases.floats(2, 9, 10, module.channels)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    initial = records.summary(variables)
    rng = np.random.default_rng(0)

    def changed(leaf):
        return leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32)

    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, variables))
    variables = jax.tree.unflatten(structure, [changed(leaf) for leaf in leaves])
    output = jax.jit(module.apply)(variables, x)
    found = {
        "kwargs": NETWORKS[name],
        "initial": initial,
        "output": records.summary({"output": output}),
    }
    check("networks", name, found, {"initial": INITIAL, "output": OUTPUT})


@pytest.mark.parametrize("name", quick_and_slow(NETWORKS))
def test_pytorch(name):
    """PyTorch's names, and which number goes where; nothing is computed, so to the last bit."""
    module = guarded.networks.create(name, **NETWORKS[name])
    x = jax.ShapeDtypeStruct((1, 8, 8, module.channels), np.float32)
    leaves, structure = jax.tree.flatten(jax.eval_shape(module.init, jax.random.key(0), x))
    counted = [i + np.arange(x.size, dtype=np.float32).reshape(x.shape)
               for i, x in enumerate(leaves)]  # fmt: skip
    variables = jax.tree.unflatten(structure, counted)
    state_dict = guarded.convert.to_torch(name, variables, **NETWORKS[name])
    found = {"sha256": records.summary(state_dict)["sha256"],
             "shapes": {k: "x".join(map(str, v.shape)) for k, v in state_dict.items()}}  # fmt: skip
    check("pytorch", name, found, {})


@pytest.mark.extended
@pytest.mark.parametrize("name", quick_and_slow(TRAININGS))
def test_training(name, tmp_path):
    """The loss of each of ten steps, and the state after them."""
    fields = TRAININGS[name]
    config = cases.config_of(guarded.default_config, fields)
    train = cases.Batches(config)
    if config.data.where == "device":
        pixels = cases.images(3, 12, 13, config.data.channels)
        train.resident = guarded.ResidentImages.from_arrays(list(pixels))
    state = guarded.train_and_evaluate(
        config,
        tmp_path,
        datasets={"train": train, "eval": cases.evaluation_images(config)},
        devices=jax.devices()[: fields.get("devices", 1)],
    )
    assert int(state.step) == cases.STEPS
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    names = sorted({key for row in rows for key in row if key.endswith("loss")})
    losses = {key: [float(f"{r[key]:.7g}") for r in rows if key in r] for key in names}
    found = {"losses": losses, "params": records.summary(state.params)}
    if state.batch_stats:
        found["batch_stats"] = records.summary(state.batch_stats)
    if state.ema is not None:
        found["ema"] = records.summary(state.ema)
    if state.critic is not None:
        found["critic"] = records.summary(state.critic.params)
    check(
        "training", name, found, dict.fromkeys(("params", "batch_stats", "ema", "critic"), TRAINED)
    )
