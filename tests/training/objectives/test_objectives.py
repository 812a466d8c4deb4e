"""The objectives by name."""

from configs import tiny
from lcdnet_jax.config import objectives as config_objectives
from lcdnet_jax.training import objectives


def test_every_objective_of_the_configuration_is_there():
    assert sorted(objectives._OBJECTIVES) == sorted(config_objectives.OBJECTIVES)
    for name, row in config_objectives.OBJECTIVES.items():
        config = tiny.get_config()
        config.objective, config.data.crop = name, 32
        init = objectives.get(config).make_extra_state_init(config)
        assert (init is not None) == row.has_critic
