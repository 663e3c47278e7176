"""The benchmarks of denoisers run, at tiny size; no time is asserted."""

import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the installed package

from benchmarks import denoiser_gpu, denoiser_step

CPU = torch.device("cpu")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(denoiser_gpu, "WARMUP", 0)
    monkeypatch.setattr(denoiser_gpu, "compiled", lambda model: model)  # takes longer than all tests of this file


def test_the_peer_has_the_same_size_but_for_its_embeddings():
    with torch.device("meta"):
        theirs = denoiser_step.peer("DiT-S/2", 4, 32, 10)
        ours = denoiser_step.denoisers.build("DiT-S/2", in_channels=4, input_size=32, num_classes=10)
    d = 384
    embeddings = (256 * d + d) + (d * d + d) + 11 * d  # time and class
    more = 11 * embeddings - d * d  # in 12 blocks in place of once; without the hint
    assert denoiser_step.parameters(theirs) - denoiser_step.parameters(ours) == more
    assert theirs.transformer_blocks[0].attn1.heads == ours.blocks[0].attention.heads == 6


def test_a_step_is_the_same_for_both_models():
    data = denoiser_step.batch(2, 4, 8, 5)
    assert [len(tensor) for tensor in data] == [2] * 4
    for make in (
        lambda: denoiser_step.denoisers.build("DiT-XXS/4", in_channels=4, input_size=8, num_classes=5),
        lambda: denoiser_step.peer("DiT-XXS/4", 4, 8, 5),
    ):
        model = denoiser_step.randomise(make())
        step = denoiser_step.step_of(model, data)
        assert step() > 0
        assert all(p.grad is None for p in model.parameters())


def test_a_row_of_the_cpu_benchmark():
    row = denoiser_step.measure("DiT-XXS/4", 2, 2, side=8, classes=5)
    times = row["median_ms"]
    assert row["time_over_diffusers"] == pytest.approx(times["DiT"] / times["DiTTransformer2DModel"], rel=0.2)
    expected = 0.1 + 0.9 * times["DiT, self-conditioned"] / times["DiT"]
    assert row["self_conditioning_expected_over_plain"] == pytest.approx(expected, rel=0.2)
    assert "DiT-XXS/4, batch 2 of 4x8x8" in denoiser_step.describe([row])


def test_flops_of_xl_2_are_the_published_ones():
    flops = denoiser_gpu.forward_flops("DiT-XL/2", 4, 32, 1000)
    d, tokens = 1152, 256
    blocks = 28 * (2 * 12 * d * d * tokens + 4 * tokens**2 * d + 2 * 6 * d * d)
    assert flops == blocks + 2 * 2 * 16 * d * tokens + 2 * (256 * d + d * d) + 2 * 2 * d * d
    assert round(flops / 2e9, 1) == 118.6  # multiply-accumulates: Peebles and Xie 2023, Table 4
    assert denoiser_gpu.utilisation(flops, 100, 1e15) == pytest.approx(3 * flops * 100 / 1e15)


def test_rows_of_the_gpu_benchmark(quick):
    rows = denoiser_gpu.measure_training(2, 4, 1, CPU, name="DiT-XXS/4", side=8, classes=5)
    assert len(rows) == 5
    assert all(row["images_per_s"] > 0 for row in rows)
    assert denoiser_gpu.table(rows).count("\n") == 5
    assert "out of memory" in denoiser_gpu.table([rows[0] | {"images_per_s": None, "utilisation": None}])


def test_a_contender_that_does_not_fit_is_left_out(quick, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(denoiser_gpu, "training_step", full)
    rows = denoiser_gpu.measure_training(2, 4, 1, CPU, name="DiT-XXS/4", side=8, classes=5)
    assert {row["images_per_s"] for row in rows} == {None}


def test_a_training_step_trains():
    data = denoiser_step.batch(2, 4, 8, 5)
    model = denoiser_step.randomise(
        denoiser_step.denoisers.build("DiT-XXS/4", in_channels=4, input_size=8, num_classes=5)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    denoiser_gpu.training_step(model, data, hinted=True)()
    same = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert same == []


def test_sampling_and_extraction(quick):
    row = denoiser_gpu.measure_sampling(2, 4, CPU, name="DiT-XXS/4", side=8, steps=4)
    assert row["samples_per_s"] > 0
    module = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2,
    )  # fmt: skip
    assert denoiser_gpu.measure_extraction(2, 1, CPU, side=32, module=module)["images_per_s"] > 0


def test_without_a_gpu_one_line_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a GPU, and torch finds none"):
        denoiser_gpu.main([])
    with pytest.raises(SystemExit) as stopped:
        denoiser_gpu.main(["--batch", "0"])
    assert stopped.value.code == 2
