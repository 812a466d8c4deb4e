"""What every registered network declares about itself is true."""

import dataclasses
import functools
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lcdnet_jax import export, networks
from lcdnet_jax.inference import tiling
from lcdnet_jax.networks._base import check_contract
from tests.guards.cases import NETWORKS, SLOW

DECLARED = (
    "scale",
    "stride",
    "input_range",
    "tile_overlap",
    "two_views",
    "global_means",
    "has_scales",
)
# Their code needs sides as numbers: programs are exported for fixed sizes.
FIXED_SIZES = ("lcdnet", "n3net")

EACH = pytest.mark.parametrize("name", networks.available())
QUICK = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in networks.available()
    ],
)
pytestmark = pytest.mark.usefixtures("traced_once")


def create(name, **fields):
    return networks.create(name, **{**NETWORKS[name], **fields})


@functools.cache
def shapes_of(module):
    x = jnp.zeros((1, 8, 8, module.channels))
    return jax.eval_shape(module.init, jax.random.key(0), x)


def traced(module, *shape, dtype=jnp.float32, **options):
    apply = functools.partial(module.apply, **options)
    return jax.eval_shape(apply, shapes_of(module), jax.ShapeDtypeStruct(shape, dtype))


@EACH
def test_states_its_values_in_its_own_file(name):
    cls = networks.get(name)
    check_contract(cls)
    own = {*vars(cls), *networks.field_names(cls)}
    assert set(DECLARED) <= own
    assert name in NETWORKS, "tests/guards/cases.py needs small fields of every network"


@EACH
def test_fields_are_channels_first_and_dtype_last(name):
    """Class attributes of the contract must not become fields, which are stored with weights."""
    fields = [field.name for field in dataclasses.fields(networks.get(name))]
    assert (fields[0], fields[-3:]) == ("channels", ["dtype", "parent", "name"])
    options = {"scale", "input_range", "local_pool", *(("stride",) if name == "n3net" else ())}
    assert not {*DECLARED, "PRESETS", "local_pool"} & set(fields) - options


@pytest.mark.extended
@EACH
@pytest.mark.parametrize(
    ("channels", "height", "width", "dtype"), [(1, 1, 1, jnp.float32), (3, 5, 13, jnp.bfloat16)]
)
def test_shapes_and_types(name, channels, height, width, dtype):
    module = create(name, channels=channels)
    y = traced(module, 1, height, width, channels, dtype=dtype)
    expected = (1, height * module.scale, width * module.scale, module.channels_out)
    assert (y.shape, y.dtype) == (expected, dtype)
    assert module.channels_out == channels
    assert not module.takes_two_views


@pytest.mark.extended
@EACH
def test_two_views(name):
    cls = networks.get(name)
    if cls.two_views:
        module = create(name, channels=6)
        assert module.takes_two_views
        assert traced(module, 1, 5, 13, 6).shape[-1] == module.channels_out == 3
        return
    try:
        module = create(name, channels=6)
    except ValueError:
        return
    assert not module.takes_two_views
    assert traced(module, 1, 5, 13, 6).shape[-1] == module.channels_out == 6


@pytest.mark.extended
@EACH
def test_scales_of_the_result(name):
    module = create(name)
    if not module.has_scales:
        with pytest.raises(TypeError, match="all_scales"):
            traced(module, 1, 8, 8, module.channels, all_scales=True)
        return
    first, *others = traced(module, 1, 32, 48, module.channels, all_scales=True)
    assert first.shape == traced(module, 1, 32, 48, module.channels).shape
    for i, other in enumerate(others, start=1):
        assert other.shape == (1, 32 >> i, 48 >> i, module.channels_out)


@EACH
def test_input_range(name):
    """Only the U-Net computes with another range than [0, 1]."""
    assert create(name).input_range == (0.0, 1.0)
    if "input_range" in networks.field_names(networks.get(name)):
        assert create(name, input_range=[-0.5, 0.5]).input_range == (-0.5, 0.5)


def takes_any_multiple(module, stride):
    # The bound is for SADNet, whose indices must fit into 32 bits.
    bounds = [f"{side} <= {export.MAX_SIDE // stride}" for side in "hw"]
    shape = jax.export.symbolic_shape(
        f"1, {stride}*h, {stride}*w, {module.channels}", constraints=bounds
    )
    try:
        traced(module, *shape)
    except Exception:  # of a type that depends on where the network wants numbers
        return False
    return True


@pytest.mark.extended
@EACH
def test_stride_is_what_programs_of_any_size_need(name):
    """And no more; windows of tiled restoration start at multiples of it."""
    module = create(name)
    if name in FIXED_SIZES:
        assert not takes_any_multiple(module, module.stride)
    else:
        assert takes_any_multiple(module, module.stride)
        assert module.stride == 1 or not takes_any_multiple(module, module.stride // 2)
    assert tiling.STRIDE % module.stride == 0 or name == "n3net"  # by default 5


@pytest.mark.extended
@QUICK
def test_what_a_pixel_depends_on(name):
    """On the whole image, or no further than the overlap: then it moves with the image."""
    # With 16 features RIDNet's attention has one hidden unit, which may be dead.
    module = create(name, **({"features": 48} if name == "ridnet" else {}))
    stride, overlap, scale = module.stride, module.tile_overlap, module.scale
    rng = np.random.default_rng(0)
    height, width = max(stride, 8), (1 if module.global_means else 2) * overlap + 64 + stride
    wide = rng.uniform(size=(1, height, width + stride, module.channels)).astype(np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), wide[:, :8, :8])
    if name == "nafnet":  # its blocks start as the identity
        variables = jax.tree.map(lambda leaf: leaf + 0.05, variables)
    apply = jax.jit(module.apply)
    here, moved = apply(variables, wide[:, :, :-stride]), apply(variables, wide[:, :, stride:])
    changed = wide[:, :, :-stride].copy()
    changed[:, :, -stride:] = 1 - changed[:, :, -stride:] / 2
    far = scale * (width - overlap - stride)
    difference = np.abs(np.asarray(apply(variables, changed)) - here)[:, :, :far].max()
    if module.global_means:
        assert difference > 0
        return
    assert difference <= 2e-3 * max(1, np.abs(here).max())
    start, end = scale * (overlap + stride), scale * (width - overlap - stride)
    np.testing.assert_allclose(
        here[:, :, start:end],
        moved[:, :, start - scale * stride : end - scale * stride],
        rtol=0,
        atol=2e-3 * max(1, np.abs(here).max()),
    )


# What check_contract refuses


class Good(networks.RestorationNetwork):
    channels: int = 3
    dtype: Any = jnp.float32

    def __call__(self, x, *, train=False, axis_name=None):
        return x


def derived(bases=(Good,), **attributes):
    """A class as if written, with annotated attributes where "annotations" has them."""
    annotations = attributes.pop("annotations", {})
    return type("Bad", bases, {"__annotations__": annotations, **attributes})


def test_defaults_of_the_contract():
    check_contract(Good)
    module = Good()
    assert (module.scale, module.stride, module.tile_overlap) == (1, 1, 64)
    assert (module.input_range, module.local_pool) == ((0.0, 1.0), None)
    assert module.padding == "reflect"
    assert not any((module.two_views, module.global_means, module.has_scales, module.PRESETS))


@pytest.mark.parametrize("cls", [nn.Dense, int, Good(), "sadnet"], ids=str)
def test_no_network(cls):
    with pytest.raises(TypeError, match=r"is not a network; give a class derived from lcdnet_jax"):
        check_contract(cls)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"scale": 0}, r"Bad\.scale must be an integer of at least 1, got 0"),
        ({"stride": 2.0}, r"Bad\.stride must be an integer of at least 1, got 2\.0"),
        ({"stride": True}, r"Bad\.stride must be an integer of at least 1, got True"),
        ({"tile_overlap": -1}, r"Bad\.tile_overlap must be an integer of at least 0, got -1"),
        ({"window_pixels": 0}, r"Bad\.window_pixels must be an integer of at least 1, got 0"),
        ({"xla_cpu_options": ["a"]}, r"Bad\.xla_cpu_options must be a tuple of names, got \['a'\]"),
        ({"input_range": (1, 0)}, r"Bad\.input_range must be a tuple of two numbers, the lower"),
        ({"padding": "zeros"}, r"Bad\.padding must be one of 'reflect', 'constant', got 'zeros'"),
        ({"two_views": 6}, r"Bad\.two_views must be True or False, got 6"),
        ({"global_means": None}, r"Bad\.global_means must be True or False, got None"),
        ({"PRESETS": ["a"]}, r"Bad\.PRESETS must be a mapping, got \['a'\]"),
        ({"PRESETS": {"a": {"width": 3}}}, r"Bad\.PRESETS\['a'\] sets 'width', which are no"),
    ],
)  # fmt: skip
def test_values_that_cannot_be(attributes, message):
    with pytest.raises(ValueError, match=message):
        check_contract(derived(**attributes))


def test_fields_without_default():
    annotations = {"width": int, "channels": int, "dtype": Any}
    cls = derived((networks.RestorationNetwork,), annotations=annotations, channels=3, dtype=None)
    with pytest.raises(ValueError, match="Bad has no default for its field 'width'; give it one"):
        check_contract(cls)


@pytest.mark.parametrize(
    ("field", "fix"),
    [("channels", "channels: int = 3"), ("dtype", "dtype: DTypeLike = jnp.float32")],
)
def test_missing_fields(field, fix):
    annotations = {name: Any for name in ("channels", "dtype") if name != field}
    values = dict.fromkeys(annotations, 3)
    cls = derived((networks.RestorationNetwork,), annotations=annotations, **values)
    with pytest.raises(ValueError, match=f"Bad has no field '{field}'; add '{fix}' to the class"):
        check_contract(cls)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"__call__": lambda self, x, *, train=False: x},
            r"Bad\.__call__ has no argument 'axis_name'; its arguments must be \(self, x, ",
        ),
        ({"has_scales": True}, "Bad.__call__ has no argument 'all_scales'"),
    ],
)
def test_missing_arguments(attributes, message):
    with pytest.raises(TypeError, match=message):
        check_contract(derived(**attributes))


# Bounds of fields, which files may set


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("dncnn", {"depth": 10**7}, "DnCNN depth is 10000000; give at most 65536"),
        ("dncnn", {"depth": 10**5000}, "DnCNN depth is a huge integer; give at most 65536"),
        ("dncnn", {"features": -(10**30)}, "DnCNN features is -1000"),
        ("lcdnet", {"enc_blocks": [1] * 65}, "enc_blocks has many entries; give at most 64"),
        ("lcdnet", {"enc_blocks": [1, 1, 1, 2**40]}, "enc_blocks is 1099511627776; give at most"),
        ("lcdnet", {"enc_blocks": [[1], [2**40]]}, "enc_blocks is 1099511627776; give at most"),
        ("lcdnet", {"enc_blocks": {"a": 1}}, "enc_blocks is a mapping; give numbers or texts"),
        ("n3net", {"neighbours": 65}, "N3Net neighbours is 65; give at most 64"),
        ("n3net", {"window": 999}, "N3Net window is 999; give at most 31"),
        ("ikc", {"iterations": 101}, "IKC iterations is 101; give at most 100"),
        ("ikc", {"kernel_size": 101}, "IKC kernel_size is 101; give at most 99"),
    ],
    ids=range(11),
)
def test_bounds_of_fields(name, fields, message):
    with pytest.raises(ValueError, match=message):
        networks.create(name, **fields)


def test_bounds_name_fields():
    with pytest.raises(ValueError, match=r"Bad\.LARGEST has 'width', which is not a field of Bad"):
        check_contract(derived(LARGEST={"width": 3}))


class Deep(Good):
    """Many layers, with parameters or without."""

    depth: int = 3
    is_shared: bool = False

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        layer = nn.Conv(self.channels, (1, 1))
        for _ in range(self.depth):
            x = layer(x) if self.is_shared else nn.Conv(self.channels, (1, 1))(x)
        return x


@pytest.mark.extended
@pytest.mark.parametrize("is_shared", [False, True])
def test_tracing_ends_soon(is_shared):
    """A file of 6 arrays cannot hold a network of 60,000 layers."""
    with pytest.raises(ValueError, match=r"^Deep with these fields has far more arrays or layers"):
        networks.abstract_variables(Deep(depth=60_000, is_shared=is_shared), count=6)


@pytest.mark.parametrize("depth", [3, 60])
def test_tracing_of_what_fits(depth):
    """The count of a file with a few arrays too few, which a later message lists."""
    shapes = networks.abstract_variables(Deep(depth=depth), count=6)
    assert len(shapes["params"]) == depth
    assert shapes == networks.abstract_variables(Deep(depth=depth))
