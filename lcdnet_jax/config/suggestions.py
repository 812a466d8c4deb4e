"""Suggestions for fields that do not exist."""

import difflib
from collections.abc import Iterable

from lcdnet_jax import networks
from lcdnet_jax.config import network_fields
from lcdnet_jax.config.schema import FIELDS

# Names of fields in other programs, without underscores, and our names.
_ALIASES = {
    **dict.fromkeys(("lr", "baselr", "initlr", "stepsize"), "optimizer.learning_rate"),
    **dict.fromkeys(("bs", "batch", "globalbatchsize", "trainbatchsize"), "batch_size"),
    **dict.fromkeys(("betas", "adambetas", "b2", "adambeta2"), "optimizer.beta2"),
    **dict.fromkeys(("iterations", "iters", "maxsteps", "numsteps", "totaliter"), "steps"),
    **dict.fromkeys(
        ("epochs", "numepochs", "maxepochs"),
        "steps (optimizer steps: an epoch is images / batch_size of them)",
    ),
    **dict.fromkeys(("scheduler", "lrschedule", "lrscheduler"), "optimizer.schedule"),
    **dict.fromkeys(("gamma", "lrdecay", "decayrate"), "optimizer.decay_factor"),
    **dict.fromkeys(("milestones", "lrstep", "decaysteps"), "optimizer.decay_every"),
    **dict.fromkeys(("warmup", "warmupiter"), "optimizer.warmup_steps"),
    **dict.fromkeys(("gradclip", "clipgrad", "maxgradnorm", "clip"), "optimizer.clip_norm"),
    **dict.fromkeys(("wd", "l2"), "optimizer.weight_decay"),
    **dict.fromkeys(("periods",), "optimizer.cycle_steps"),
    **dict.fromkeys(("restartweights",), "optimizer.cycle_weights"),
    **dict.fromkeys(("etamin", "etamins"), "optimizer.cycle_final_fractions"),
    **dict.fromkeys(("gtsizes", "patchsizes"), "stages.crops"),
    **dict.fromkeys(("minibatchsizes",), "stages.batch_sizes"),
    **dict.fromkeys(("ema", "emarate"), "ema_decay"),
    **dict.fromkeys(("gradientaccumulation", "accumulationsteps", "accumsteps"), "accumulate"),
    **dict.fromkeys(("criterion", "lossfn", "losstype"), "loss"),
    **dict.fromkeys(("patch", "patchsize", "cropsize"), "data.crop"),
    **dict.fromkeys(("augmentation", "flip"), "data.augment"),
    **dict.fromkeys(("dataset", "datasource"), "data.train.source"),
    **dict.fromkeys(("datadir", "dataroot", "datapath"), "data.train.path"),
    **dict.fromkeys(
        ("sigma", "noiselevel", "noise"), "degradation.sigma_min and degradation.sigma_max"
    ),
    **dict.fromkeys(("model", "arch", "architecture"), "network.name"),
    **dict.fromkeys(("precision", "computedtype", "bf16", "amp"), "network.dtype"),
    **dict.fromkeys(("pretrained", "finetune", "initcheckpoint", "weights"), "init_from"),
    **dict.fromkeys(("saveevery", "savefreq", "checkpointfreq"), "checkpoint_every"),
    **dict.fromkeys(("valevery", "valfreq", "evalfreq"), "eval_every"),
    **dict.fromkeys(("logfreq", "printfreq"), "log_every"),
    **dict.fromkeys(("randomseed", "manualseed"), "seed"),
}


def unknown_field(name: str) -> str:
    """Makes the message for an unknown field, with a suggestion if there is one.

    Args:
        name: Full name, such as "optimizer.lr".
    """
    suggestion = _suggestion(name)
    hint = f"did you mean {suggestion}?" if suggestion else "see configs/default.py"
    return f"unknown field config.{name}; {hint}"


def _suggestion(name: str) -> str | None:
    """The best guess; surer rules come first."""
    last = _last(name)
    if misspelled := closest(name, FIELDS, cutoff=0.91):
        return misspelled
    if last in _ALIASES:
        return _ALIASES[last]
    known = [*FIELDS, *_network_fields()]
    if same := [field for field in known if _last(field) == last]:
        return closest(name, same, cutoff=0)
    if close := closest(name, FIELDS, cutoff=0.7):
        return close
    if close := closest(last, map(_last, known), cutoff=0.8):
        return closest(name, [field for field in known if _last(field) == close], cutoff=0)
    return None


def _network_fields() -> list[str]:
    """Fields of all networks, because the network is not known here."""
    hints = (network_fields.type_hints(network) for network in networks.available())
    return [f"network.kwargs.{field}" for field in dict.fromkeys(name for h in hints for name in h)]


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """The known name that is most similar to ``name``, or None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def _last(name: str) -> str:
    """The last part of a name, in lower case, without underscores and hyphens."""
    return name.rpartition(".")[2].lower().replace("_", "").replace("-", "")
