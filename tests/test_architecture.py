"""The architecture, executable: who may import whom, sizes, documented public names, and a true map."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import tensorgrad as tg

ROOT = Path(__file__).parent.parent
FILES = sorted(p for package in ("tensorgrad", "minigpt") for p in (ROOT / package).rglob("*.py"))

# A module may import from the lines above its own, and from its own line as long as that makes no cycle.
LAYERS = [
    "kernels",
    "graph",
    "tree modes random creation cotangents autodiff anomaly",
    "ops.gradient",
    "ops.kinds",
    "ops.elementwise ops.shape ops.index ops.logic",
    "ops.linalg ops.reduce",
    "ops.fused ops.conv ops.einsum ops.implicit",
    "ops.attention",
    "linalg transforms syntax array_api numpy_protocol interchange",
    "cost trace render draw",
    "nn problem check flat lanczos curvature",
    "optim",
    "warmup",
]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Dotted names of our modules that a file imports, wherever in the file."""
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            dotted = ".".join(base)
            found |= {f"{dotted}.{alias.name}" if is_module(f"{dotted}.{alias.name}") else dotted for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("tensorgrad", "minigpt") and is_module(name)}


def is_module(dotted: str) -> bool:
    path = ROOT / dotted.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def layer(module: str) -> int | None:
    name = module.removeprefix("tensorgrad.")
    for i, line in enumerate(LAYERS):
        if any(name == entry or name.startswith(entry + ".") for entry in line.split()):
            return i
    return None


ENGINE = [p for p in FILES if p.is_relative_to(ROOT / "tensorgrad") and module_of(p) not in ("tensorgrad", "tensorgrad.ops")]


@pytest.mark.parametrize("path", ENGINE, ids=module_of)
def test_tensorgrad_imports_point_downward(path):
    own = layer(module_of(path))
    assert own is not None, f"{module_of(path)} has no place in LAYERS"
    for name in imports(path) - {"tensorgrad", "tensorgrad.ops"}:
        theirs = layer(name)
        assert theirs is not None and theirs <= own, f"{module_of(path)} imports {name}"


def test_no_import_cycles():
    graph = {module_of(p): imports(p) - {module_of(p)} for p in FILES if p.name != "__init__.py"}
    done: set[str] = set()
    while left := [m for m in graph if m not in done]:
        free = [m for m in left if not (graph[m] & set(left))]
        assert free, f"a cycle among {left}"
        done |= set(free)


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "minigpt")], ids=module_of)
def test_minigpt_uses_public_names_only(path):
    assert not {
        n for n in imports(path) if n.startswith("tensorgrad.") and n.split(".")[1] not in ("nn", "optim", "check", "warmup")
    }


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_and_functions_hold_one_idea(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is long"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_foreign_and_nothing_unfinished(path):
    text = path.read_text()
    assert not re.search(r"^\s*(import|from)\s+(torch|jax|tensorflow|transformers|autograd|scipy)\b", text, re.MULTILINE)
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)


def test_public_names_are_documented():
    for name, value in vars(tg).items():
        if not name.startswith("_"):
            assert inspect.getdoc(value), name


def test_the_readme_maps_the_disk():
    """Every path in the README's tree is there, and whatever is directly in a package is in the tree."""
    tree = re.search(r"## The map\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    listed, folders = set(), []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = [*folders[:depth], name]
        listed.add("".join(folders))
    missing = {path for path in listed if not (ROOT / path).exists()}
    assert not missing
    for package in ("tensorgrad", "minigpt"):
        own = {f"{package}/{p.name}{'/' * p.is_dir()}" for p in (ROOT / package).iterdir() if not p.name.startswith("__")}
        assert own <= listed, own - listed


def test_the_top_level_is_the_users():
    allowed = {"pyproject.toml", "README.md", "tensorgrad", "minigpt", "tests", "benchmarks"}
    made = {"build", "dist"}  # by installing
    found = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and p.suffix != ".egg-info"}
    assert {name for name in found - made if not name.startswith("minigpt-model")} <= allowed  # training makes those
