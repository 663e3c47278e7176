"""The run notebook of a denoiser: the function's numbers, and a page that stays small."""

import nbformat
import pytest

from diffusab_book import chapters, runs
from diffusab_book.runs import RunSpec
from diffusab_core.experiments import trial
from diffusab_core.experiments.bench import Trial


def without_times(values):
    return {name: value for name, value in values.items() if not name.endswith("_time_s")}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def spec():
    return RunSpec.resolve("denoiser", "smoke", seed=2)


@pytest.fixture(scope="module")
def done(spec, store):
    return runs.execute(spec, store, progress=False)


def test_the_notebook_records_what_the_function_does(spec, store, done, tmp_path):
    declared = chapters.parameters(spec.path)
    values = {name: spec.parameters.get(name, p.check(p.default)) for name, p in declared.items()} | {"seed": 2}
    record = trial.run(Trial.pick(values), tmp_path, store / "cache", size="smoke", progress=False)
    assert without_times(done.metrics) == without_times(record.metrics)
    assert done.series == record.series
    assert done.notes == record.notes
    folder = spec.folder(store)
    assert (folder / "samples.webp").read_bytes() == (tmp_path / "samples.webp").read_bytes()
    assert {name: done.parameters[name] for name in ("samples", "denoiser", "features")} == {
        "samples": 40, "denoiser": "DiT-XXS/2", "features": ["offline"],
    }  # fmt: skip


def test_the_page_shows_what_came_and_is_small(spec, store, done):
    file = spec.folder(store) / "denoiser.ipynb"
    outputs = [o for cell in nbformat.read(file, as_version=4).cells for o in cell.get("outputs", [])]
    shown = [
        o.data["application/vnd.plotly.v1+json"]
        for o in outputs
        if "application/vnd.plotly.v1+json" in o.get("data", {})
    ]
    names = [[trace.get("name") for trace in figure["data"]] for figure in shown]
    assert names[0] == ["loss"]
    assert names[1] == ["step 0", "step 2", "step 4", "real"]
    assert names[3] == ["gap", "to the images"]
    assert len(shown) == 6  # among them samples along the training and samples at the end
    assert file.stat().st_size < 150_000
    assert not any("PosixPath" in o.get("data", {}).get("text/plain", "") for o in outputs)
