"""Training on several processes: torchrun with two of them on the CPU, killed where it hurts, against one process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import distributed_worker as worker
import pytest
import torch

from diffusab_core.training import TrainingDiverged
from diffusab_core.training import world as worlds
from diffusab_core.training.state import CheckpointError
from diffusab_core.training.world import World

ALONE = World()
PATIENCE_S = 600  # for one launch, which takes about 10 s on two free cores


class Launch:
    """A job of two processes under torchrun, which ends with this block at the latest."""

    def __init__(self, task: str, folder: Path, restarts: int = 0, **environment: str) -> None:
        self.folder, self.log = folder, folder / f"log_{time.monotonic_ns()}.txt"
        for old in (*folder.glob("held*"), *folder.glob("rank*.pt"), *folder.glob("pid*")):
            old.unlink()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += ["--max-restarts", str(restarts), worker.__file__, task, str(folder)]
        fixed = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | fixed | environment
            )

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all: torchrun first, so that it restarts and tidies nothing."""
        self.process.kill()
        self.process.wait()
        workers = [int(f.name.split("_")[1]) for f in self.folder.glob("pid*_*")]
        for pid in workers:
            if worker.__file__ in _command_line(pid):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while any(worker.__file__ in _command_line(pid) for pid in workers):
            assert time.monotonic() < deadline, "a killed process stays"
            time.sleep(0.02)

    def wait_for(self, *names: str) -> None:
        """Until these files are there."""
        deadline = time.monotonic() + PATIENCE_S
        while not all((self.folder / name).exists() for name in names):
            assert self.process.poll() is None, f"ended early:\n{self.log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"no {names} after {PATIENCE_S} s:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.02)

    def finish(self) -> list[dict]:
        """Until it has ended well; what each process found."""
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"hangs:\n{self.log.read_text()[-4000:]}")
        assert code == 0, self.log.read_text()[-6000:]
        return [torch.load(self.folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:  # gone
        return ""


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def assert_same(a: dict, b: dict, **tolerance: float) -> None:
    """Equal, to the bit unless a tolerance is given."""
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], **({"rtol": 0, "atol": 0} | tolerance), msg=lambda m, n=name: n + m
        )


@pytest.fixture(scope="module")
def alone() -> dict:
    """The uninterrupted run of one process."""
    return worker.outcome(*worker.run(ALONE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def two(folder) -> list[dict]:
    """What each of two processes found."""
    worker.run_until(10, ALONE, folder / "of_one")
    with Launch("compare", folder) as launch:
        return launch.finish()


# ---------------------------------------------------------------------------------------------------------------------
# Two processes without trouble


@pytest.mark.parametrize("which", ["plain", "accumulated"])
def test_losses_gradients_and_weights_are_those_of_one_process(alone, two, which):
    for found in (rank[which] for rank in two):
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert found["mae"] == pytest.approx(alone["mae"], rel=1e-5)
        assert found["norms"] == pytest.approx(alone["norms"], rel=1e-4)
        assert min(found["norms"]) > worker.SETTINGS.clip  # clipped in every step
        # Adam divides by the gradient's size: where it is nearly 0, rounding moves a weight
        assert_same(found["weights"], alone["weights"], rtol=1e-3, atol=1e-3)
        assert_same(found["ema"], alone["ema"], rtol=1e-3, atol=1e-3)
    assert_same(two[0][which]["ema"], two[1][which]["ema"])
    assert two[0][which]["loss"] == two[1][which]["loss"]


def test_accumulation_in_one_process_changes_nothing(alone):
    parts = worker.outcome(*worker.run(ALONE, replace(worker.SETTINGS, accumulation=4)))
    assert parts["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert parts["mae"] == pytest.approx(alone["mae"], rel=1e-5)
    assert parts["norms"] == pytest.approx(alone["norms"], rel=1e-4)


def test_parameters_are_sharded_and_begin_with_the_weights_of_the_first_process(two):
    for rank, found in enumerate(two):
        shares = found["shares"]
        whole = {name: share for name, share in shares.items() if name != "odd"}
        assert set(whole.values()) == {0.5}
        assert shares["odd"] == pytest.approx([2 / 3, 1 / 3][rank])
        assert_same(found["start"], worker.Small().state_dict())


def test_clipping_is_by_the_norm_of_the_whole_gradient(two):
    wanted = torch.nn.Parameter(torch.zeros(2, 1))
    wanted.grad = torch.tensor([[3.0], [4.0]])
    torch.nn.utils.clip_grad_norm_([wanted], 4.5)
    for found in (rank["clipping"] for rank in two):
        assert found["norm"] == pytest.approx(5)
        torch.testing.assert_close(found["clipped"], wanted.grad)
        assert found["own"].norm() < 4.5  # by its own norm no process would have clipped at all
    by_own_norm = torch.cat([rank["clipping"]["own"] for rank in two])
    assert by_own_norm.norm() == pytest.approx(5)


def test_a_loss_that_is_nan_in_one_process_stops_both_before_the_weights_change(two):
    before = worker.Small()
    with pytest.raises(worker.Interrupted):
        worker.run(ALONE, model=before, loss_of=lambda m: worker.interrupted_at(3, m))
    for found in two:
        assert re.match(
            "TrainingDiverged: the loss is nan at step 3, on the batch of step 3; the weights", found["nan"]
        )
        assert_same(found["weights at nan"], before.state_dict(), rtol=1e-3, atol=1e-4)
    assert [found["logged"] for found in two] == [[1, 2, 3], []]  # one process logs


def test_numbers_that_are_read_late_change_nothing(two):
    for found in two:
        assert found["late"]["loss"] == pytest.approx(found["plain"]["loss"][3::4], rel=1e-4)
        assert_same(found["late"]["ema"], found["plain"]["ema"], rtol=1e-3, atol=1e-3)
        assert re.match("TrainingDiverged: the loss is nan at step 3", found["late nan"])
        assert_same(found["weights at late nan"], found["weights at nan"], rtol=1e-3, atol=1e-4)


def test_long_work_of_the_first_process_outlasts_the_world_s_timeout(two):
    done, missing, broken = zip(*(found["on main"] for found in two), strict=True)
    assert done == ("by process 0", "by process 0")
    assert missing == ("FileNotFoundError: [Errno 2] No such file or directory",) * 2
    assert broken == (
        "ZeroDivisionError: integer division or modulo by zero",
        "WorldError: ZeroDivisionError: integer division or modulo by zero",
    )


def test_what_cannot_be_trained_on_two_processes_is_refused(two):
    for found in two:
        assert re.match("WorldError: this is work of one process, and torchrun started 2: ", found["alone"])
        assert re.match("ValueError: the module is not sharded, but the run is of 2 processes", found["whole refused"])


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def test_a_run_of_two_processes_goes_on_with_one(alone, two, folder):
    assert names_in(folder / "of_two") == {"step_00000004", "step_00000008"}
    resumed = worker.outcome(*worker.run(ALONE, checkpoint=folder / "of_two"))
    assert resumed["resumed_from"] == 8
    assert resumed["loss"] == pytest.approx(two[0]["plain"]["loss"], abs=1e-5)
    assert resumed["norms"] == pytest.approx(two[0]["plain"]["norms"][8:], rel=1e-4)
    assert_same(resumed["ema"], two[0]["plain"]["ema"], rtol=1e-3, atol=1e-4)


def test_a_run_of_one_process_goes_on_with_two(alone, two):
    for found in (rank["resumed from one"] for rank in two):
        assert found["resumed_from"] == 8
        assert found["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert found["norms"] == pytest.approx(alone["norms"][8:], rel=1e-4)
        assert_same(found["ema"], alone["ema"], rtol=1e-3, atol=1e-4)


def test_the_checkpoint_of_another_run_is_refused_by_name(two, tmp_path):
    for found in two:
        assert re.match(r"CheckpointError: .*step_00000008 belongs .*\(clip 0\.05 -> 0\.5\)", found["other settings"])
    worker.run_until(10, ALONE, tmp_path)
    with pytest.raises(CheckpointError, match=r"step_00000008 belongs .*\(latents None -> 'se'\)"):
        worker.run(ALONE, checkpoint=tmp_path, identity={"latents": "se"})
    with pytest.raises(CheckpointError, match=r"another model: the shape of ema\.\S*bias is \(36,\) there and \(24,\)"):
        worker.run(ALONE, checkpoint=tmp_path, model=worker.Small(8))


def test_resuming_one_process_is_exact_and_keeps_two_checkpoints(alone, tmp_path):
    worker.run_until(10, ALONE, tmp_path)
    resumed = worker.outcome(*worker.run(ALONE, checkpoint=tmp_path))
    assert resumed["resumed_from"] == 8
    assert resumed["loss"] == alone["loss"]
    assert_same(resumed["weights"], alone["weights"])
    assert_same(resumed["ema"], alone["ema"])
    assert names_in(tmp_path) == {"step_00000008", "step_00000012"}
    finished = worker.outcome(*worker.run(ALONE, checkpoint=tmp_path))
    assert finished["resumed_from"] == 12
    assert_same(finished["weights"], alone["weights"])


def test_the_run_s_identity_may_hold_tuples(tmp_path):
    options = {"checkpoint": tmp_path, "identity": {"scales": (2, 4), "grid": [(1, 2)]}}
    worker.run(ALONE, **options)
    assert worker.run(ALONE, **options)[1].resumed_from == 12


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "index", "empty run.json", "strange run.json"])
def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(alone, tmp_path, damage):
    worker.run_until(10, ALONE, tmp_path)
    (tmp_path / "step_00000010.tmp").mkdir()  # what a killed save leaves
    spoil(tmp_path / "step_00000008", damage)
    with pytest.warns(UserWarning, match=r"step_00000008 cannot be read .* going on from the one before it, at step 4"):
        resumed = worker.outcome(*worker.run(ALONE, checkpoint=tmp_path))
    assert resumed["resumed_from"] == 4
    assert_same(resumed["weights"], alone["weights"])
    assert names_in(tmp_path) == {"step_00000008", "step_00000012"}
    for path in tmp_path.iterdir():
        spoil(path, damage)
    with pytest.raises(CheckpointError, match=r"step_00000012 cannot .*step_00000008 cannot .*start anew"):
        worker.run(ALONE, checkpoint=tmp_path)


def spoil(checkpoint: Path, damage: str) -> None:
    pieces = checkpoint / "__0_0.distcp"
    raw = bytearray(pieces.read_bytes())
    if damage == "flip":
        raw[len(raw) // 2] ^= 0xFF
        pieces.write_bytes(raw)
    elif damage == "truncate":
        pieces.write_bytes(raw[: len(raw) // 2])
    elif damage == "missing":
        pieces.unlink()
    elif damage == "index":
        (checkpoint / ".metadata").write_bytes(b"")
    else:
        (checkpoint / "run.json").write_text("" if damage.startswith("empty") else "[3]")


def test_a_first_save_that_was_killed_is_no_checkpoint(alone, tmp_path):
    worker.run_until(10, ALONE, tmp_path)
    shutil.rmtree(tmp_path / "step_00000004")
    (tmp_path / "step_00000008").rename(tmp_path / "step_00000008.tmp")
    found = worker.outcome(*worker.run(ALONE, checkpoint=tmp_path))
    assert found["resumed_from"] == 0
    assert_same(found["weights"], alone["weights"])


# ---------------------------------------------------------------------------------------------------------------------
# Killed processes


def test_a_killed_job_ends_with_the_weights_of_one_that_was_not(two, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    with Launch("recover", tmp_path, HOLD_AT_STEP="6") as launch:  # between two saves
        launch.wait_for("held0", "held1")
        launch.kill()
    assert names_in(checkpoints) == {"step_00000004"}
    with Launch("recover", tmp_path, HOLD_IN_SAVE="8") as launch:  # one process has written, the other has not
        launch.wait_for("held1", "checkpoints/step_00000008.tmp/__0_0.distcp")
        launch.kill()
    assert names_in(checkpoints) == {"step_00000004", "step_00000008.tmp"}
    assert "run.json" not in names_in(checkpoints / "step_00000008.tmp")
    with Launch("recover", tmp_path, HOLD_IN_COMMIT="8") as launch:  # all is written, but the name not final
        launch.wait_for("held0")
        launch.kill()
    assert names_in(checkpoints) == {"step_00000004", "step_00000008.tmp"}
    assert "run.json" in names_in(checkpoints / "step_00000008.tmp")
    with Launch("recover", tmp_path) as launch:
        found = launch.finish()
    assert_as_uninterrupted(found, two, resumed_from=4)
    assert names_in(checkpoints) == {"step_00000008", "step_00000012"}


def test_torchrun_replaces_a_killed_process(two, tmp_path):
    with Launch("recover", tmp_path, restarts=1, DIE_AT_STEP="6") as launch:
        found = launch.finish()
    assert (tmp_path / "starts0.json").read_text() == '"1"'
    assert_as_uninterrupted(found, two, resumed_from=4)


def assert_as_uninterrupted(found: list[dict], two: list[dict], resumed_from: int) -> None:
    for mine, uninterrupted in zip(found, two, strict=True):
        assert mine["resumed_from"] == resumed_from
        assert mine["loss"] == uninterrupted["plain"]["loss"]
        assert mine["norms"] == uninterrupted["plain"]["norms"][resumed_from:]
        assert_same(mine["weights"], uninterrupted["plain"]["weights"])
        assert_same(mine["ema"], uninterrupted["plain"]["ema"])


# ---------------------------------------------------------------------------------------------------------------------
# The world


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with worlds.world("cpu") as world:
        assert (world.rank, world.size, world.device, world.is_main) == (0, 1, torch.device("cpu"), True)
        assert not torch.distributed.is_initialized()
        model = worker.Small()
        worlds.shard(model, world, model.blocks)
        assert not worlds.is_sharded(model)
        value = torch.tensor([1.0, 2.0])
        assert worlds.mean(value, world) is value
        assert worlds.gather("a", world) == ["a"]
        assert worlds.from_main("a", world) == "a"


def test_an_incomplete_environment_and_impossible_worlds_are_named(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="lacks LOCAL_RANK"), worlds.world("cpu"):
        pass
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match="2 processes cannot share the device 'mps'"), worlds.world("mps"):
        pass


def test_a_bad_number_in_one_part_stops_accumulation_too():
    settings = replace(worker.SETTINGS, accumulation=2)
    with pytest.raises(TrainingDiverged, match="nan at step 3"):
        worker.run(ALONE, settings, loss_of=lambda m: worker.denoising(m, bad_part=1))
