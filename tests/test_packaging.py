"""The environment is described once: environment.yml repeats pyproject.toml, constraints.txt satisfies it."""

import importlib.metadata
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import diffusab_core

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]


def constraints():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_environment_yml_repeats_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == [*REQUIREMENTS, "-e ."]


def test_constraints_pin_and_satisfy_every_requirement():
    pinned = constraints()
    for text in REQUIREMENTS:
        requirement = Requirement(text)
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_installed_versions_are_the_pinned_ones():
    pinned = constraints()
    different = {}
    for text in REQUIREMENTS:
        name = canonicalize_name(Requirement(text).name)
        installed = Version(importlib.metadata.version(name))
        # A build tag such as +cpu is the same release.
        if installed.base_version != pinned[name].base_version:
            different[name] = str(installed)
    assert not different, f"reinstall with `make env`: {different}"


def test_version_is_stated_once():
    assert diffusab_core.__version__ == PROJECT["version"]
    assert f"version: {PROJECT['version']}" in (ROOT / "CITATION.cff").read_text()


def test_core_imports_without_what_the_book_needs():
    """`pip install` without extras must import what people use in their own code."""
    rooms = [
        "spectrum",
        "flow",
        "denoisers",
        "training",
        "data",
        "autoencoders",
        "latents",
        "metrics",
        "methods",
        "experiments",
    ]
    blocked = "IPython ipywidgets jupytext papermill jupyterlab lpips nbformat plotly typer matplotlib skimage sklearn"
    code = (
        "import sys\n"
        f"for name in {blocked.split()}: sys.modules[name] = None\n"
        f"import importlib\nfor name in {rooms}: importlib.import_module('diffusab_core.' + name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
