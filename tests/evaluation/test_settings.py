"""Settings: what the flags of eval.py and the configuration of the training choose together."""

import pytest

from configs import default
from lcdnet_jax import networks
from lcdnet_jax.evaluation import settings
from lcdnet_jax.evaluation.settings import Request


def choose(request, *, is_paired=False, training_config=None, source="folder"):
    training_config = training_config or default.get_config()
    chosen = settings.choose_settings(
        request,
        source,
        is_paired=is_paired,
        training_config=training_config,
        sigmas=(15, 25),
        degradations=settings.choose_degradations(request, training_config),
    )
    return [(setting.protocol.name, setting.sigma) for setting in chosen]


class TestRestorers:
    def create(self, name="dncnn", **flags):
        """The variables are not used before the first image."""
        module = networks.create(name)
        return settings.create_restorers(Request(**flags), module, {}, crop=64, bucket=32)

    def test_modes(self):
        restorers = self.create(modes=("full", "tiled"))
        assert {name: one.mode for name, one in restorers.items()} == {
            "full": "full", "tiled": "tiled 384/64"
        }  # fmt: skip
        assert {one.bucket for one in restorers.values()} == {32}

    def test_sizes_of_tiles(self):
        (tiled,) = self.create(modes=("tiled",), tile=96, overlap=8).values()
        assert tiled.mode == "tiled 96/8"

    @pytest.mark.parametrize(("given", "window"), [(None, 96), (50, 50)])
    def test_window_of_local_means(self, given, window):
        (local,) = self.create("lcdnet", modes=("local",), local_pool=given).values()
        assert local.module.local_pool == window

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"modes": ("half",)}, "no mode 'half'"),
            ({"tile": 96}, "--tile and --overlap are for --modes tiled"),
            ({"overlap": 0}, "--tile and --overlap are for --modes tiled"),
            ({"local_pool": 9}, "--local_pool is for --modes local"),
        ],
    )
    def test_mistakes(self, flags, message):
        with pytest.raises(ValueError, match=message):
            self.create(**flags)


class TestSettings:
    def test_training_decides_without_flags(self):
        training_config = default.get_config()
        training_config.degradation.protocol = "float,8bit"
        assert choose(Request(), training_config=training_config) == [
            ("float", 15.0), ("float", 25.0), ("8bit", 15.0), ("8bit", 25.0)
        ]  # fmt: skip

    def test_flags_decide(self):
        assert choose(Request(protocols=("clipped",), sigmas=("50",))) == [("clipped", 50.0)]

    def test_pairs(self):
        assert choose(Request(), is_paired=True) == [("pairs", None)]
        assert choose(Request(protocols=("8bit", "gopro")), is_paired=True) == [("gopro", None)]
        with pytest.raises(ValueError, match="are for clean images, but --data has pairs"):
            choose(Request(spectrum="low"), is_paired=True)

    def test_other_degradation(self):
        training_config = default.get_config()
        training_config.degradation.kind = "jpeg"
        training_config.degradation.protocol = "8bit"
        assert choose(Request(), training_config=training_config) == [("jpeg-8bit", None)]
        assert choose(Request(sigmas=("25",)), training_config=training_config) == [("8bit", 25.0)]

    def test_levels(self):
        with pytest.raises(ValueError, match=r"must be at least --spread \(20\), got 15"):
            choose(Request(spread=20))
        with pytest.raises(ValueError, match="must be numbers"):
            choose(Request(sigmas=("x",)))


class TestKernels:
    @pytest.mark.parametrize(
        ("text", "label", "options"),
        [
            ("none", "no-blur", {"kernel": None}),
            ("gaussian:0.8", "gaussian0.8",
             {"kernel": "isotropic", "width": (0.8, 0.8), "size": 9}),
            ("disk:2", "disk2", {"kernel": "disk", "width": (2, 2), "size": 5}),
            ("motion:8", "motion8", {"kernel": "motion", "width": (8, 8), "size": 9}),
            ("pool:/a/kernels", "pool-kernels", {"kernel": "pool", "pool": "/a/kernels"}),
        ],
    )  # fmt: skip
    def test_kernels(self, text, label, options):
        assert settings.parse_kernel(text) == (label, options)

    @pytest.mark.parametrize("text", ["", "box:3", "gaussian", "disk:x", "disk:inf", "pool:"])
    def test_unknown(self, text):
        with pytest.raises(ValueError, match="no such kernel"):
            settings.parse_kernel(text)

    def test_network_of_scale_1(self):
        with pytest.raises(ValueError, match="--kernels are for super-resolution"):
            settings.choose_degradations(Request(kernels=("none",)), default.get_config())
