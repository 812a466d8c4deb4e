"""Small faults in the source that the quick tests must notice.

    python -m tests.mutation [--only NAME] [--list] [--sample N]

Each target is a source file with its tests, without those marked ``slow``. The file is parsed,
and each place where an operator below applies gives one mutant: the file with that one change. A
mutant is killed when a test fails, or when the tests take far more processor time than without
it; otherwise it survives. Mutants are made in a temporary copy of the repository, and each is
tested in a fork of one process that has imported JAX already.

Left out is what is not mathematics: messages, annotations, decorators, class variables and checks
of arguments (``if ...: raise``, ``__post_init__``, functions whose name starts with ``check_``).

tests/mutation_equivalent.toml lists mutants that no test can kill, each with a proof. The exit
code is 1 if more than 5 % of the others survive, or if a listed one is killed or does not exist.
"""

import argparse
import ast
import collections
import contextlib
import dataclasses
import difflib
import gc
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import warnings
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests" / "mutation_equivalent.toml"
ALLOWED = 0.05
COPIED = ("lcdnet_jax", "input_pipeline", "configs", "benchmarks", "tests", "pyproject.toml")


@dataclasses.dataclass(frozen=True)
class Target:
    """A source file and what tests it.

    Attributes:
        source: The file.
        tests: Arguments of pytest, the quickest tests first.
    """

    source: str
    tests: tuple[str, ...]


def _network(name: str, *tests: str, golden: tuple[str, ...] = ()) -> Target:
    """A network: its golden files, the tests beside it, and what callers read of its class."""
    return Target(
        f"lcdnet_jax/networks/{name}.py",
        (
            *(f"tests/networks/test_golden.py::test_float32[{file}]" for file in golden),
            f"tests/networks/test_{name}.py",
            *tests,
            "tests/guards/test_api.py::test_networks",
        ),
    )


# The only place with paths of sources.
_EVERY = "tests/networks/test_every_network.py"
TARGETS = {
    "deform_conv": Target(
        "lcdnet_jax/ops/deform_conv.py",
        (
            "tests/ops/test_golden_deform_conv.py",
            "tests/ops/test_deform_conv.py",
            "tests/guards/test_api.py::test_signatures",
        ),
    ),
    "dct": Target("lcdnet_jax/ops/dct.py", ("tests/test_golden_sfm.py", "tests/ops/test_dct.py")),
    "sfm": Target("lcdnet_jax/sfm.py", ("tests/test_golden_sfm.py", "tests/test_sfm.py")),
    "losses": Target("lcdnet_jax/losses.py", ("tests/test_losses.py",)),
    "blocks": Target(
        "lcdnet_jax/networks/_blocks.py",
        (
            "tests/networks/test_blocks.py",
            "tests/networks/test_lcdnet.py::TestLocalPooling",
            "tests/networks/test_golden.py",
        ),
    ),
    "dncnn": _network("dncnn", golden=("dncnn_rl",)),
    "sadnet": _network("sadnet", golden=("sadnet_gray",)),
    "memnet": _network("memnet", golden=("memnet",)),
    "ridnet": _network("ridnet", golden=("ridnet",)),
    "buifd": _network("buifd", golden=("buifd",)),
    "unet_n2n": _network("unet_n2n", golden=("unet_n2n",)),
    "nafnet": _network("nafnet", golden=("nafnet",)),
    "restormer": _network("restormer", golden=("restormer_withbias_color",)),
    "rcan": _network("rcan", golden=("rcan_x2_small",)),
    "rrdb": _network("rrdb", golden=("rrdb_x4_small",)),
    "kmsr": _network("kmsr"),
    "ikc": _network("ikc", f"{_EVERY}::test_parameter_counts_outside_the_registry"),
    "n3net": _network("n3net", f"{_EVERY}::test_cropping_undoes_padding"),
    "lcdnet": _network("lcdnet"),
    "lcdnet_blocks": Target(
        "lcdnet_jax/networks/_lcdnet_blocks.py",
        ("tests/networks/test_lcdnet_blocks.py", "tests/networks/test_lcdnet.py"),
    ),
}

# --- Operators --------------------------------------------------------------------------------

_SIGNS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_BOUNDS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
# Functions of one image that can be left out: f(x) becomes x.
_DROPPED = {
    "relu", "leaky_relu", "gelu", "sigmoid", "tanh", "softmax", "softplus", "exp", "log", "sqrt",
    "square", "abs", "clip", "floor", "flip", "_lrelu", "lrelu", "stop_gradient", "_enlarge",
    "transpose", "swapaxes", "pad_to_multiple", "pixel_shuffle",
}  # fmt: skip
_PAIRS = {
    "floor": "ceil", "minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min",
    "mean": "sum", "sum": "mean", "max_pool": "avg_pool", "avg_pool": "max_pool",
    "sin": "cos", "cos": "sin", "zeros_like": "ones_like", "zeros": "ones", "ones": "zeros",
    "any": "all", "all": "any", "relu": "sigmoid", "sigmoid": "relu",
}  # fmt: skip
_MODES = {
    "reflect": "edge", "edge": "reflect", "symmetric": "reflect", "SAME": "VALID",
    "VALID": "SAME", "nearest": "linear", "linear": "nearest", "clip": "fill", "fill": "clip",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of a file."""

    target: str
    number: int
    kind: str
    function: str
    line: int
    text: str  # BEFORE -> AFTER, with " #2" and so on where a function has several of it
    source: str  # of the whole file

    @property
    def key(self) -> tuple[str, str, str]:
        return self.target, self.function, self.text


class Points(ast.NodeTransformer):
    """Places of a file where operators apply; the tree stays as it is.

    Attributes:
        found: Kind, function, node and what takes its place.
    """

    def __init__(self) -> None:
        self.found: list[tuple[str, str, ast.expr, ast.expr]] = []
        self._scope: list[str] = []
        self._modes = False

    def _add(self, kind: str, node: ast.expr, new: ast.expr) -> None:
        self.found.append((kind, ".".join(self._scope) or "module", node, new))

    # What is left out.

    def _scoped(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        if node.name == "__post_init__" or node.name.lstrip("_").startswith("check"):
            return node
        self._scope.append(node.name)
        if isinstance(node, ast.FunctionDef):
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()
        return node

    visit_FunctionDef = visit_ClassDef = _scoped

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value and "ClassVar" not in ast.unparse(node.annotation):
            self.visit(node.value)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        if not all(isinstance(statement, ast.Raise) for statement in (*node.body, *node.orelse)):
            self._add("branch", node.test, ast.UnaryOp(ast.Not(), node.test))
            self.generic_visit(node)
        return node

    def _left_out(self, node: ast.AST) -> ast.AST:
        return node

    visit_Raise = visit_Assert = visit_Import = visit_ImportFrom = visit_JoinedStr = _left_out
    visit_Try = _left_out  # here they turn errors into others

    # Operators.

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if not isinstance(node.left, ast.JoinedStr):
            if new := _SIGNS.get(type(node.op)):
                self._add("sign", node, ast.BinOp(node.left, new(), node.right))
            if isinstance(node.op, ast.Add | ast.Sub):
                self._add("term", node, node.left)
            elif isinstance(node.op, ast.Mult):
                self._add("gate", node, node.left)
                self._add("gate", node, node.right)
            if isinstance(node.op, ast.MatMult | ast.Sub | ast.Div):
                self._add("swap", node, ast.BinOp(node.right, node.op, node.left))
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            self._add("sign", node, node.operand)
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value = node.operand.value
            if isinstance(value, int):
                self._add("number", node, ast.Constant(-value - 1))
                return node
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for i, op in enumerate(node.ops):
            if new := _BOUNDS.get(type(op)):
                ops = [*node.ops[:i], new(), *node.ops[i + 1 :]]
                self._add("bound", node, ast.Compare(node.left, ops, node.comparators))
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add("branch", node, ast.BoolOp(other, node.values))
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self._add("branch", node, node.body)
        self._add("branch", node, node.orelse)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if isinstance(value, bool):
            self._add("number", node, ast.Constant(not value))
        elif isinstance(value, int):
            self._add("number", node, ast.Constant(value + 1))
        elif isinstance(value, float):
            self._add("number", node, ast.Constant(value * 1.5 if value else 1.0))
        elif isinstance(value, str) and self._modes and value in _MODES:
            self._add("mode", node, ast.Constant(_MODES[value]))
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Indices go down rather than up: JAX clamps those beyond the end."""
        for index in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            if isinstance(index, ast.Constant) and type(index.value) is int:
                self._add("number", index, ast.Constant(index.value - 1 if index.value else 1))
            else:
                self.visit(index)
        self.visit(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        of_method = isinstance(node.func, ast.Attribute) and not _is_module(node.func.value)
        subject = node.func.value if of_method else next(iter(node.args), None)
        if name in _DROPPED and subject is not None and not isinstance(subject, ast.Starred):
            self._add("drop", node, subject)
        if other := _PAIRS.get(name):
            if isinstance(node.func, ast.Attribute):
                func: ast.expr = ast.Attribute(node.func.value, other, ast.Load())
                self._add("pair", node.func, func)
            else:
                self._add("pair", node.func, ast.Name(other, ast.Load()))
        if name in ("where", "select", "cond") and len(node.args) == 3:
            condition, *both = node.args
            new = ast.Call(node.func, [condition, *reversed(both)], node.keywords)
            self._add("swap", node, new)
        if name in ("concatenate", "stack") and node.args and isinstance(node.args[0], ast.Tuple):
            self._swaps(node.args[0])
        before, self._modes = self._modes, True
        self.generic_visit(node)
        self._modes = before
        return node

    def visit_List(self, node: ast.List) -> ast.AST:
        self._swaps(node)
        return self.generic_visit(node)

    def _swaps(self, node: ast.List | ast.Tuple) -> None:
        """Neighbours change places."""
        for i in range(len(node.elts) - 1):
            if any(isinstance(e, ast.Starred | ast.Constant) for e in node.elts[i : i + 2]):
                continue
            new = [*node.elts]
            new[i : i + 2] = reversed(new[i : i + 2])
            self._add("swap", node, type(node)(new, ast.Load()))


def _is_module(node: ast.expr) -> bool:
    """Of ``jnp`` in ``jnp.exp``, ``jax.nn`` in ``jax.nn.relu``."""
    names = ("jnp", "np", "nn", "jax", "lax", "ops", "math", "functools", "_blocks")
    return ast.unparse(node).split(".")[0] in names


def mutants(target: str) -> list[Mutant]:
    """All of a target, in the order of its source."""
    source = (ROOT / TARGETS[target].source).read_text()
    points = Points()
    points.visit(ast.parse(source))
    made, seen, times = [], set(), collections.Counter[tuple[str, str]]()
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    whole = b"".join(lines)
    for kind, function, node, new in points.found:
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before, after = ast.unparse(node), ast.unparse(new)
        atomic = isinstance(new, ast.Constant | ast.Attribute | ast.Name | ast.List | ast.Tuple)
        inserted = after if atomic or isinstance(new, ast.Call) else f"({after})"
        changed = (whole[:begin] + inserted.encode() + whole[end:]).decode()
        if changed in seen or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)):
            continue
        seen.add(changed)
        text = f"{before} -> {after}"
        times[function, text] += 1
        if times[function, text] > 1:
            text += f" #{times[function, text]}"
        made.append(Mutant(target, len(made), kind, function, node.lineno, text, changed))
    return made


# --- Runs -------------------------------------------------------------------------------------


@contextlib.contextmanager
def copied() -> Iterator[pathlib.Path]:
    """A temporary copy of the repository, without weights."""
    with tempfile.TemporaryDirectory(prefix="lcdnet_jax-mutation-") as folder:
        root = pathlib.Path(folder) / "tree"
        root.mkdir()
        for name in COPIED:
            path = ROOT / name
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
                shutil.copytree(path, root / name, ignore=ignored)
            else:
                shutil.copy(path, root / name)
        # All mutants share what is compiled for the parts that they do not change.
        os.environ["LCDNET_JAX_COMPILED"] = str(pathlib.Path(folder) / "compiled")
        os.environ.pop("LCDNET_JAX_SLOW_TESTS", None)
        yield root


class Order:
    """Plugin of pytest: first the tests of these names, then quick ones, then those of
    ``make test-rest``."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def pytest_collection_modifyitems(self, items: list) -> None:
        place = {name: i for i, name in enumerate(self.names)}
        items.sort(
            key=lambda item: (place.get(item.nodeid, len(place)), "extended" in item.keywords)
        )


def run_tests(
    root: pathlib.Path,
    arguments: tuple[str, ...],
    *,
    seconds: int = 1800,
    first: list[str] | None = None,
    write_bytecode: bool = False,
) -> tuple[str, str]:
    """In a fork: how it ended ("passed", "failed", "late" or "error"), and what pytest wrote.

    ``seconds`` is a limit of processor time, so that other work on the machine does not matter.
    """
    log = root.parent / "log"
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of forks; it has started no threads yet
        child = os.fork()
    if not child:
        sys.dont_write_bytecode = not write_bytecode
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
        signal.alarm(20 * seconds)  # for those that wait forever
        _child(root, arguments, log, first or [])
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return "late", ""
    # Without mutants all tests pass, so any failure is the mutant's; 5 is "no tests".
    outcome = {0: "passed", 5: "error"}.get(code, "failed")
    return outcome, log.read_text(errors="replace")


def _child(
    root: pathlib.Path, arguments: tuple[str, ...], log: pathlib.Path, first: list[str]
) -> None:
    code = 3
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(root)
        for name in [n for n in sys.modules if n.split(".")[0] in ("lcdnet_jax", "tests")]:
            del sys.modules[name]
        here = {"", str(ROOT), os.curdir}
        sys.path[:] = [str(root), *(p for p in sys.path if p not in here)]
        os.environ["PYTHONPATH"] = str(root)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        import pytest

        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        options += ["-p", "no:unraisableexception", "-p", "no:threadexception"]  # collect garbage
        code = int(pytest.main([*options, *arguments], [Order(first)]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def prepare() -> None:
    """Imports what takes long and does not change."""
    import cv2  # noqa: F401
    import flax.linen  # noqa: F401
    import jax
    import jax.test_util
    import ml_collections  # noqa: F401
    import optax  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import PIL.Image  # noqa: F401
    import pytest  # noqa: F401
    import safetensors.numpy  # noqa: F401
    import scipy.fft
    import scipy.stats  # noqa: F401

    jax.config.update("jax_platforms", "cpu")
    gc.collect()
    gc.freeze()


def difference(mutant: Mutant) -> str:
    source = (ROOT / TARGETS[mutant.target].source).read_text().splitlines()
    lines = difflib.unified_diff(source, mutant.source.splitlines(), lineterm="", n=0)
    return "\n".join(f"      {line}" for line in list(lines)[2:] if not line.startswith("@@"))


def equivalents() -> dict[tuple[str, str, str], str]:
    """Proofs by target, function and text."""
    if not EQUIVALENT.exists():
        return {}
    rows = tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])
    return {(r["target"], r["function"], r["mutation"]): r["proof"] for r in rows}


def test_target(root: pathlib.Path, target: str, chosen: list[Mutant]) -> list[Mutant]:
    """The mutants that survive."""
    what = TARGETS[target]
    path = root / what.source
    original = path.read_text()
    # Bytecode of all other files is kept. That of mutants is not: they change within a second,
    # which is as exact as bytecode knows the time of its source.
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    outcome, output = run_tests(root, what.tests, write_bytecode=True)
    seconds = 60 + 5 * int(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    if outcome != "passed":
        raise SystemExit(f"{target}: without any mutant, the tests have {outcome}\n{output}")
    survivors, start = [], time.monotonic()
    # Tests that have killed a mutant of the same function run first.
    killers: dict[str, list[str]] = collections.defaultdict(list)
    for mutant in chosen:
        path.write_text(mutant.source)
        names = killers[mutant.function]
        outcome, output = run_tests(root, what.tests, seconds=seconds, first=names)
        if failed := re.search(r"^FAILED (.*?)(?: - |$)", output, re.MULTILINE):
            if failed[1] in names:
                names.remove(failed[1])
            names.insert(0, failed[1])
        if outcome == "error":
            raise SystemExit(f"{target} {mutant.number}: pytest did not run\n{output}")
        if outcome == "late":
            print(f"  killed by its time: {where(mutant)}", flush=True)
        if outcome == "passed":
            survivors.append(mutant)
            print(f"  survives: {where(mutant)}", flush=True)
    path.write_text(original)
    took = time.monotonic() - start
    print(f"{target}: {len(chosen)} mutants, {len(survivors)} survive, {took:.0f} s", flush=True)
    return survivors


def where(mutant: Mutant) -> str:
    source = TARGETS[mutant.target].source
    return f"{source}:{mutant.line} {mutant.function} [{mutant.kind}] {mutant.text}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=TARGETS, help="a target; repeatable")
    parser.add_argument("--list", action="store_true", help="show mutants, test none")
    parser.add_argument("--sample", type=int, help="so many of each target, drawn with seed 0")
    parser.add_argument("--skip", action="store_true", help="test none of those with a proof")
    parser.add_argument("--function", help="only those of functions that contain this")
    parser.add_argument("--number", type=int, action="append", help="one of --list; repeatable")
    options = parser.parse_args(arguments)

    proofs = equivalents() if options.skip else {}
    plan = {name: mutants(name) for name in options.only or TARGETS}
    for name, all_of_it in plan.items():
        some = [m for m in all_of_it if not options.number or m.number in options.number]
        some = [m for m in some if (options.function or "") in m.function]
        some = [m for m in some if not options.skip or m.key not in proofs]
        if options.sample and len(some) > options.sample:
            some = sorted(random.Random(0).sample(some, options.sample), key=lambda m: m.number)
        plan[name] = some
    if options.list:
        for name, some in plan.items():
            print(f"{name}: {len(some)} mutants of {TARGETS[name].source}")
            for mutant in some:
                print(f"  {mutant.number:4} {where(mutant)}")
        return 0

    prepare()
    survivors = []
    with copied() as root:
        for name, some in plan.items():
            survivors += test_target(root, name, some)
    return report(plan, survivors)


def report(plan: dict[str, list[Mutant]], survivors: list[Mutant]) -> int:
    proofs = equivalents()
    made = {m.key for name in plan for m in mutants(name)}
    tested = {m.key for some in plan.values() for m in some}
    alive = {m.key for m in survivors}
    unproven = [m for m in survivors if m.key not in proofs]
    wrong = [
        (key, "does not exist" if key not in made else "is killed")
        for key in proofs
        if key[0] in plan and (key not in made or (key in tested and key not in alive))
    ]
    print("\n| target | mutants | equivalent | survive |\n|---|---|---|---|")
    for name, some in plan.items():
        proven = sum(m.key in proofs for m in some)
        left = sum(m.target == name for m in unproven)
        print(f"| {name} | {len(some)} | {proven} | {left} |")
    for mutant in unproven:
        print(f"\n{where(mutant)}\n{difference(mutant)}")
    for key, why in wrong:
        print(f"\n{EQUIVALENT.name}: {' | '.join(key)} {why}")
    count = len(tested - set(proofs))
    share = len(unproven) / max(count, 1)
    print(f"\n{len(unproven)} of {count} survive, {share:.1%}; {ALLOWED:.0%} may")
    return int(share > ALLOWED or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
