"""Run records: complete, finite, atomic, and with an identity that only what was chosen can change."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from diffusab_book.results import RESULTS
from diffusab_core.autoencoders import WEIGHTS
from diffusab_core.experiments import records


def make(**changes):
    run = records.start(
        **{
            "experiment": "demo",
            "parameters": {"steps": 3, "block_size": 8},
            "seed": 1,
            "size": "smoke",
            "data": "white noise, 4 samples",
            **changes,
        }
    )
    run.metrics["psnr_db"] = 27.5
    run.series["loss"] = [0.5, 0.25]
    return run.finish()


def test_round_trip_keeps_everything(tmp_path):
    record = make()
    assert records.read(record.write(tmp_path / "deep" / "record.json")) == record


def test_record_says_where_it_came_from():
    record = make()
    assert {"python", "torch", "diffusab_core"} <= record.versions.keys()
    assert record.device.startswith("cpu:")
    assert record.wall_time_s >= 0


def test_identity_depends_on_choices_only():
    record = make()
    elsewhere = record.model_copy(update={"device": "cuda: other", "metrics": {"psnr_db": 1.0}})
    assert elsewhere.identity == record.identity
    assert make(parameters={"steps": 3, "block_size": 8, "device": "cuda"}).identity == record.identity
    changes = [{"seed": 2}, {"size": "laptop"}, {"experiment": "other"}, {"parameters": {"steps": 4, "block_size": 8}}]
    identities = {make(**change).identity for change in changes}
    assert len(identities) == len(changes)
    assert record.identity not in identities


def test_identity_ignores_the_order_of_parameters():
    assert make(parameters={"a": 1, "b": 2}).identity == make(parameters={"b": 2, "a": 1}).identity


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_numbers_are_refused(value):
    fields = make().model_dump()
    with pytest.raises(ValidationError, match="psnr_db"):
        records.RunRecord.model_validate({**fields, "metrics": {"psnr_db": value}})
    with pytest.raises(ValidationError, match=r"series\.loss\.1"):
        records.RunRecord.model_validate({**fields, "series": {"loss": [1.0, value]}})


@pytest.mark.parametrize(("field", "value"), [("size", "huge"), ("parameters", {"x": object()}), ("data", "")])
def test_bad_fields_are_refused(field, value):
    with pytest.raises(ValidationError):
        records.RunRecord.model_validate({**make().model_dump(), field: value})


def test_unknown_fields_and_other_schemas_are_refused():
    fields = make().model_dump()
    with pytest.raises(ValidationError):
        records.RunRecord.model_validate({**fields, "fid": 3.07})
    with pytest.raises(ValidationError):
        records.RunRecord.model_validate({**fields, "schema_version": 0})


def test_broken_file_names_file_and_field(tmp_path):
    path = make().write(tmp_path / "record.json")
    fields = json.loads(path.read_text())
    del fields["seed"]
    path.write_text(json.dumps(fields))
    with pytest.raises(records.RecordError, match=r"record\.json.*seed"):
        records.read(path)
    path.write_text(path.read_text()[:40])
    with pytest.raises(records.RecordError, match=r"record\.json"):
        records.read(path)


def test_by_arm_sorts_by_the_seed_as_a_number_and_refuses_a_wrong_name(tmp_path):
    for seed in (10, 2, 0):
        make(seed=seed).write(tmp_path / f"se-alpha0.5-seed{seed}.json")
    make(seed=1).write(tmp_path / "plain-seed1.json")
    found = records.by_arm(tmp_path)
    assert list(found) == ["plain", "se-alpha0.5"]
    assert [record.seed for record in found["se-alpha0.5"]] == [0, 2, 10]
    make(seed=1).write(tmp_path / "plain-seed3.json")
    with pytest.raises(records.RecordError, match=r"plain-seed3.json.*ARM-seed1.json"):
        records.by_arm(tmp_path)


def test_a_record_of_schema_1_is_read_as_older_code(tmp_path):
    old = RESULTS / "finetuning" / "plain-seed0.json"
    fields = json.loads(old.read_text())
    assert fields["schema_version"] == 1, "an old file is what this test is about"
    record = records.read(old)
    assert (record.schema_version, record.upgraded_from, record.run_identity) == (2, 1, None)
    assert record.metrics == fields["metrics"]
    # Its identity is what it was: the folder of a run that older code finished is still known to be that run's.
    chosen = {name: value for name, value in fields["parameters"].items() if name != "device"}
    expected = records.digest_json([fields["experiment"], chosen, fields["seed"], fields["size"]])[:12]
    assert record.identity == expected
    again = records.read(record.write(tmp_path / "record.json"))
    assert again == record, "written anew it still says so"
    assert json.loads((tmp_path / "record.json").read_text())["schema_version"] == 2
    with pytest.raises(ValidationError, match="run_identity"):
        records.RunRecord.model_validate({**fields, "run_identity": "0" * 12})


def test_the_identity_of_a_run_is_what_was_asked_for(tmp_path):
    record = make(run_identity="0123456789ab")
    assert (record.identity, record.upgraded_from) == ("0123456789ab", None)
    assert make().identity != record.identity
    for wrong in ("", "0123456789AB", "0123"):
        with pytest.raises(ValidationError, match="run_identity"):
            make(run_identity=wrong)


def test_records_are_read_without_torch():
    code = "import sys; from diffusab_core.experiments import records; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


ROOT = Path(records.__file__).resolve().parents[2]
COMMITTED = [*RESULTS.rglob("*.json"), *WEIGHTS.glob("*/record.json")]


def test_there_are_committed_records():
    assert len(COMMITTED) > 100


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_committed_records_are_valid_and_name_no_private_folder(path):
    record = records.read(path)
    assert record.git_revision, "a committed record says which code made it"
    assert str(ROOT) not in path.read_text()
