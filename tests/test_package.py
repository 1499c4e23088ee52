"""What the wheel and the source distribution hold, by the build backend's own selection of files."""

from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


def selected(builder):
    return {file.distribution_path for file in builder(str(ROOT)).recurse_included_files()}


def code_and_digits():
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "minikfac").rglob("*.py")}
    return code | {"minikfac/datasets/digits.npz"}


def test_the_wheel_is_the_package_and_its_digits():
    paths = selected(WheelBuilder)
    assert code_and_digits() <= paths
    assert all(path.startswith("minikfac/") for path in paths)


def test_the_source_distribution_has_no_tests():
    paths = selected(SdistBuilder)  # README, LICENSE and pyproject.toml come without being selected
    assert code_and_digits() <= paths
    assert {path.split("/")[0] for path in paths} == {"minikfac", "CHANGELOG.md", "CITATION.cff"}
