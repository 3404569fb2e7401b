"""Each package imports only packages below it, and no two files import each other."""

import ast
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS = ("utils", "preprocessing", "models", "training", "original_implementation", "prediction")
TOP = len(FLOORS)  # the entry scripts
# the only door to the previous study's networks for what is above them
MAY_IMPORT_ORIGINAL = {"prediction/classifier.py", "original_implementation/train.py"}
# the rooms inside a floor, and who else may look into them
SUB_ROOMS = {
    "preprocessing/check": (),
    "preprocessing/simulate": ("preprocessing/sources.py", "preprocessing/simulate_continuous.py"),
    "training/grid": ("reproduce.py",),
    "prediction/continuous": ("prediction/",),
    "prediction/monitoring": ("prediction/run.py", "prediction/timeline.py"),
}
MANY_OF_EACH = {"__init__.py", "__main__.py"}


def program_files() -> list[Path]:
    packages = [file for floor in FLOORS for file in (ROOT / floor).rglob("*.py")]
    return sorted(ROOT.glob("*.py")) + sorted(packages)


def floor_of(module: str) -> int:
    return FLOORS.index(module) if module in FLOORS else TOP


def imported_modules(file: Path) -> set[str]:
    """Return the dotted names of the project's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                name if (ROOT / f"{name.replace('.', '/')}.py").is_file() else node.module
                for name in names
            }
    return {name for name in found if name.split(".")[0] in FLOORS}


IMPORTS = {file.relative_to(ROOT).as_posix(): imported_modules(file) for file in program_files()}


def test_the_program_is_found():
    assert len(IMPORTS) > 50 and all((ROOT / floor / "__init__.py").is_file() for floor in FLOORS)


@pytest.mark.parametrize("file", IMPORTS)
def test_no_import_points_up(file):
    own = TOP if file.endswith("train.py") and "original" in file else floor_of(file.split("/")[0])
    up = {name for name in IMPORTS[file] if floor_of(name.split(".")[0]) > own}
    assert not up, f"{file} imports {', '.join(sorted(up))} from a floor above"


@pytest.mark.parametrize("room", SUB_ROOMS)
def test_only_its_users_look_into_a_room(room):
    package = room.replace("/", ".")
    users = {
        file
        for file, names in IMPORTS.items()
        if any(name.startswith(f"{package}.") for name in names) and not file.startswith(room)
    }
    assert all(user.startswith(SUB_ROOMS[room]) for user in users), users
    assert (ROOT / room / "__init__.py").is_file()


def test_continuous_data_know_nothing_of_those_who_follow_them():
    files = [file for file in IMPORTS if file.startswith("prediction/continuous/")]
    names = {name for file in files for name in IMPORTS[file]}
    assert files and not [name for name in names if name.startswith("prediction.monitoring")]


def test_no_two_files_have_one_name():
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]
    product = [f for f in files if f.parts[0] != "tests" and f.name not in MANY_OF_EACH]
    names = Counter(file.name for file in product)
    assert len(product) > 50 and not [name for name, n in names.items() if n > 1]


def test_seisbench_is_for_tests_only():
    texts = [file.read_text(encoding="utf-8") for file in program_files()]
    assert not [text for text in texts if "import seisbench" in text or "from seisbench" in text]


def test_only_one_door_leads_to_the_previous_study():
    users = {
        file
        for file, names in IMPORTS.items()
        if any(name.startswith("original_implementation") for name in names)
        and not file.startswith("original_implementation/")
    }
    assert users <= MAY_IMPORT_ORIGINAL


def test_no_two_files_import_each_other():
    graph = {file.removesuffix(".py").replace("/", "."): names for file, names in IMPORTS.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for name in graph.get(module, ()):
            visit(name, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())
