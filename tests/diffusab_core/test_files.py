"""Files are whole under their final name at every moment; digests and differences say what changed."""

from __future__ import annotations

import ast
import json
import math
import os
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from time import sleep

import pytest
import torch

from diffusab_core import denoisers, files, flow
from diffusab_core.methods.denoising import Denoising, Sampling
from diffusab_core.training import Settings
from diffusab_core.training.batches import Batches


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("image", "images"), ("imagse/train/a.png", "images/train/a.png"), ("images/trian", "images/train"),
        ("imagse/none", None), ("weights", None), ("hiden", None),
    ],
)  # fmt: skip
def test_a_place_that_is_spelled_almost_alike_is_guessed(tmp_path, monkeypatch, given, found):
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "images" / "train" / "a.png").touch()
    (tmp_path / ".hidden").mkdir()
    assert files.guess_place(tmp_path / given) == (f" (did you mean {tmp_path / found}?)" if found else "")
    monkeypatch.chdir(tmp_path)
    assert files.guess_place(given) == (f" (did you mean {found}?)" if found else "")


def test_a_file_gets_its_name_only_once_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "record.json"
    with files.writing(path) as partial:
        partial.write_text("half")
        assert partial.parent == path.parent
        assert not path.exists()
    assert [f.name for f in path.parent.iterdir()] == ["record.json"]
    assert path.read_text() == "half"


@pytest.mark.parametrize("alone", [False, True])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, alone):
    path = files.write_text(tmp_path / "record.json", "old", alone=alone)

    def fail():
        with files.writing(path, alone=alone) as partial:
            partial.write_text("ne")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    (tmp_path / "shard.tmp").write_text("of a killed process")
    files.write_bytes(tmp_path / "shard", b"whole", alone=True)
    assert [f.name for f in tmp_path.iterdir()] == ["shard"]


def test_two_processes_may_write_the_same_file(tmp_path):
    path = tmp_path / "reference"
    with files.writing(path) as mine, files.writing(path) as theirs:
        assert mine != theirs
        mine.write_text("mine")
        theirs.write_text("theirs")
    assert path.read_text() == "mine"  # the inner one was committed first
    assert list(tmp_path.iterdir()) == [path]


def test_several_files_appear_together_or_not_at_all(tmp_path):

    def write(texts):
        with ExitStack() as stack:
            for name, text in texts.items():
                stack.enter_context(files.writing(tmp_path / name)).write_text(text)

    with pytest.raises(TypeError):
        write({"a": "a", "b": None})
    assert not list(tmp_path.iterdir())
    write({"a": "a", "b": "b"})
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a", "b"]


def test_json_is_plain_and_refuses_what_json_does_not_know(tmp_path):
    path = files.write_json(tmp_path / "a.json", {"é": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"é": [1, 2.5, None]}
    with pytest.raises(ValueError, match="nan"):
        files.write_json(path, [float("nan")])
    assert json.loads(path.read_text()) == {"é": [1, 2.5, None]}


def test_digests_tell_contents_types_and_shapes_apart(tmp_path):
    path = files.write_bytes(tmp_path / "abc", b"abc")
    assert files.digest_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert files.digest_json({"a": 1, "b": 2}) == files.digest_json({"b": 2, "a": 1}) != files.digest_json({"a": 1})
    x = torch.arange(6.0)
    others = [x + 1, x.reshape(2, 3), x.to(torch.bfloat16), x.double()]
    assert len({files.digest_tensors([t]) for t in [x, *others]}) == 5
    assert files.digest_tensors([x.reshape(3, 2).T]) == files.digest_tensors([x.reshape(3, 2).T.contiguous()])
    assert files.digest_tensors([torch.tensor(1.0)]) != files.digest_tensors([torch.tensor([1.0])])


def test_differences_name_every_entry_with_both_values():
    old, new = {"seed": 0, "steps": 10, "same": "x"}, {"seed": 1, "same": "x", "name": "a"}
    assert files.differences(old, new) == "name None -> 'a'; seed 0 -> 1; steps 10 -> None"
    assert files.differences(old, new, keys=["steps", "same"], word="and") == "steps 10 and None"
    assert files.differences(old, dict(old)) == ""


def test_of_dictionaries_only_what_differs_inside_is_named():
    old, new = ({"latents": {"seed": 0, "model": name, "same": {"a": 1}}, "steps": 4} for name in ("a", "b"))
    assert files.differences(old, new) == "latents.model 'a' -> 'b'"
    assert files.differences(old, {"latents": None, "steps": 4}).startswith("latents {'seed': 0")


def test_an_error_in_one_line(tmp_path):
    assert files.first_line(ValueError("one\ntwo")) == "ValueError: one"
    assert files.first_line(KeyError()) == "KeyError"
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "none").read_text()
    assert files.first_line(caught.value) == "No such file or directory"
    assert len(files.first_line(ValueError("x" * 900))) < 150


def test_a_setting_that_cannot_be_used_is_a_user_s_mistake():
    """The command line shows these in one line, and anything else with its traceback."""
    wrong = (
        lambda: Settings(steps=0), lambda: Denoising(time_scale=0.0), lambda: Sampling(guidance=-1.0),
        lambda: Sampling(steps=0), lambda: flow.time_shift(0.5, -1.0), lambda: Batches([], 1, 0, 1),
        lambda: denoisers.build("DiT-S/2", in_channels=4, input_size=5),
    )  # fmt: skip
    for call in wrong:
        with pytest.raises(files.DiffusabError):
            call()
    with pytest.raises(ValueError, match="alike") as caught:  # a mistake of a program
        flow.target(torch.zeros(2), torch.zeros(3))
    assert not isinstance(caught.value, files.DiffusabError)


# ---------------------------------------------------------------------------------------------------------------------
# Platforms


def test_nothing_that_only_unix_has_is_imported_at_the_top():
    """Windows could not even show the help."""
    unix = {"fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"}
    home = Path(files.__file__).parents[1]
    modules = [path for top in ("diffusab_core", "diffusab_book") for path in sorted((home / top).rglob("*.py"))]
    assert len(modules) > 100
    for path in modules:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            assert not names & unix, path


@pytest.mark.parametrize(
    ("own", "groups", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a/b", {"cpu.max": "100000 100000", "a/cpu.max": "200000 100000"}, 1),
        (
            "4:memory:/x\n1:cpu,cpuacct:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/outside", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("3:cpuset:/x", {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "1"}, math.inf),
    ],
)
def test_quota_of_control_groups(tmp_path, own, groups, cores):
    """Version 2 and version 1, of the process's own group and of those above it."""
    (tmp_path / "own").write_text(own)
    for name, text in groups.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    assert files.read_quota(tmp_path / "groups", tmp_path / "own") == cores
    assert files.read_quota(tmp_path / "groups", tmp_path / "nowhere") == math.inf


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.5, 2), (math.inf, 4), (9.0, 4)])
def test_cores_that_may_be_used(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(files, "read_quota", lambda: quota)
    assert files.count_cores() == cores


@pytest.mark.parametrize(
    ("mine", "all_cores", "load", "threads"),
    [
        (4, 4, 0.2, 4),
        (4, 4, 1.0, 3),
        (4, 4, 9.0, 2),
        (2, 2, 3.0, 1),
        (1, 2, 0.0, 1),
        (2, 64, 30.0, 2),
        (3, 64, 64.0, 1),
    ],
)
def test_threads_are_for_idle_cores(monkeypatch, mine, all_cores, load, threads):
    monkeypatch.setattr(files, "count_cores", lambda: mine)
    monkeypatch.setattr(os, "cpu_count", lambda: all_cores)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert files.count_threads() == threads


HELD = files.SettingsError("held by another")


def test_a_folder_has_one_holder_at_a_time(tmp_path):
    folder = tmp_path / "new"
    with files.sole_holder(folder, HELD):
        with pytest.raises(files.SettingsError, match="held by another"), files.sole_holder(folder, HELD):
            pass
        assert list(folder.iterdir()) == []
    with files.sole_holder(folder, HELD):
        pass


def test_processes_that_were_forked_meanwhile_hold_nothing(tmp_path):
    """Such as workers that read images, which have this process's open files and may outlive the work."""
    worker = get_context("fork").Process(target=sleep, args=(60,))
    with files.turn(tmp_path / "lock"), files.sole_holder(tmp_path, HELD):
        worker.start()
    try:
        with (tmp_path / "lock").open() as file, files.sole_holder(tmp_path, HELD):
            files.lock(file.fileno(), wait=False)
    finally:
        worker.kill()
        worker.join()
