"""Checkpoints: whole or not at all, the one before kept, damage named."""

import pytest
import torch

from diffusab_core.training.checkpoints import CheckpointError, load_checkpoint, previous, save_checkpoint

RUN = {"steps": 3, "name": "a"}


def state(step: int) -> dict:
    return {"step": step, "run": RUN, "weights": torch.full((200,), float(step))}


def test_the_newest_is_read_and_the_one_before_is_kept(tmp_path):
    path = tmp_path / "deep" / "c.pt"
    assert load_checkpoint(path, RUN) is None
    for step in (1, 2, 3):
        save_checkpoint(path, state(step))
    assert load_checkpoint(path, RUN)["step"] == 3
    assert torch.load(previous(path), weights_only=True)["step"] == 2
    assert len(list(path.parent.iterdir())) == 2


def test_a_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, state(1))
    with pytest.raises(Exception, match=r"pickle|local"):
        save_checkpoint(path, {"step": lambda: 2})
    assert load_checkpoint(path, RUN)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, state(1))
    path.replace(previous(path))  # the moment after the first rename
    assert load_checkpoint(path, RUN)["step"] == 1


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "text"])
def test_damage_is_named_and_passed_over(tmp_path, damage):
    path = tmp_path / "c.pt"
    save_checkpoint(path, state(1))
    save_checkpoint(path, state(2))
    raw = bytearray(path.read_bytes())
    where = raw.find(torch.full((4,), 2.0).numpy().tobytes())
    raw[where] ^= 0xFF  # inside the weights
    path.write_bytes({"truncate": raw[: len(raw) // 2], "empty": b"", "flip": bytes(raw), "text": b"hello"}[damage])
    with pytest.warns(UserWarning, match=r"c\.pt cannot be read .*at step 1"):
        assert load_checkpoint(path, RUN)["weights"][0] == 1
    previous(path).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"c\.pt cannot be read .*previous cannot be read .*start anew"):
        load_checkpoint(path, RUN)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"step": 1, "run": RUN, "trap": Trap()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "c.pt", RUN)


def test_every_difference_is_named(tmp_path):
    save_checkpoint(tmp_path / "c.pt", state(1))
    with pytest.raises(CheckpointError, match=r"name 'a' -> 'b'; seed None -> 4; steps 3 -> None"):
        load_checkpoint(tmp_path / "c.pt", {"name": "b", "seed": 4})
