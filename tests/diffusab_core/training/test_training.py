import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from diffusab_core.files import SettingsError, sole_holder
from diffusab_core.training import Settings, TrainingDiverged, batch_indices, generator_at, loop, state, train, world
from diffusab_core.training.batches import Batches, ReadAhead
from diffusab_core.training.loop import _Average
from diffusab_core.training.order import stream
from diffusab_core.training.state import CheckpointError

SETTINGS = Settings(steps=12, seed=5, learning_rate=1e-2, warmup=3)
DATA = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 4))


def denoising(model):
    """A loss whose data and noise both depend on the step: resuming wrongly in either shows."""

    def loss(step, generator):
        x = DATA[batch_indices(step, 8, len(DATA), SETTINGS.seed)]
        noise = torch.randn(x.shape, generator=generator)
        error = (model(x + 0.1 * noise) - x).square().mean()
        return error, {"rmse": error.detach().sqrt()}

    return loss


def run(settings=SETTINGS, loss_of=denoising, **options):
    model = network()
    return model, train(model, loss_of(model), settings, log_every=4, progress=False, **options)


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# ---------------------------------------------------------------------------------------------------------------------
# Functions of (seed, step)


def test_every_epoch_sees_every_item_once_across_batch_boundaries():
    seen = [i for step in range(15) for i in batch_indices(step, 4, 10, seed=1)]
    epochs = [seen[k : k + 10] for k in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6  # reshuffled


def test_order_and_noise_are_functions_of_seed_and_step():
    assert batch_indices(7, 4, 100, seed=1) == batch_indices(7, 4, 100, seed=1)
    assert batch_indices(7, 4, 100, seed=1) != batch_indices(7, 4, 100, seed=2)
    draw = {(s, k): torch.randn(4, generator=generator_at(s, k)).tolist() for s in (0, 1) for k in (0, 1)}
    assert len({tuple(v) for v in draw.values()}) == 4
    assert draw[1, 1] == torch.randn(4, generator=generator_at(1, 1)).tolist()


def test_learning_rate_warms_up_and_follows_half_a_cosine():
    settings = Settings(steps=101, learning_rate=1.0, final_learning_rate=0.1, warmup=0)
    assert loop.learning_rate(0, settings) == pytest.approx(1.0)
    assert loop.learning_rate(50, settings) == pytest.approx(0.55)
    assert loop.learning_rate(100, settings) == pytest.approx(0.1)
    warm = [loop.learning_rate(k, replace(settings, warmup=4)) for k in range(5)]
    assert warm == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_default_half_life():
    assert Settings(steps=1000).half_life == 50
    assert Settings(steps=400_000).half_life == 5000
    assert Settings(steps=1000, ema_half_life=7).half_life == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"warmup": 12}, {"learning_rate": 0.0}, {"clip": -1.0}, {"ema_half_life": 0.0},
        {"accumulation": 0}, {"seed": -1},
    ],
)  # fmt: skip
def test_impossible_settings_are_named(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        replace(SETTINGS, **wrong)


# ---------------------------------------------------------------------------------------------------------------------
# The loop


def test_training_lowers_the_loss_and_is_repeatable():
    settings = replace(SETTINGS, steps=200)
    model, trained = run(settings)
    assert trained.series["loss"][-1] < 0.6 * trained.series["loss"][0]
    assert trained.series["rmse"][-1] == pytest.approx(math.sqrt(trained.series["loss"][-1]), rel=1e-5)
    assert trained.series["step"] == [float(k) for k in range(4, 201, 4)]
    again, _ = run(settings)
    assert_same_state(model.state_dict(), again.state_dict())
    other, _ = run(replace(settings, seed=6))
    assert not torch.equal(model[0].weight, other[0].weight)


def test_resuming_is_exact_to_the_bit(tmp_path):
    path = tmp_path / "checkpoints"
    expected, expected_trained = run()

    class Interrupted(Exception):
        pass

    def stops_at_nine(model):
        inner = denoising(model)

        def loss(step, generator):
            if step == 9:
                raise Interrupted
            return inner(step, generator)

        return loss

    with pytest.raises(Interrupted):
        run(loss_of=stops_at_nine, checkpoint=path, checkpoint_every=5)
    resumed, trained = run(checkpoint=path, checkpoint_every=5)
    assert trained.resumed_from == 5
    assert_same_state(resumed.state_dict(), expected.state_dict())
    assert_same_state(trained.ema, expected_trained.ema)
    assert trained.series == expected_trained.series
    # nothing half-written is left
    assert {folder.name for folder in path.iterdir()} == {"step_00000010", "step_00000012"}

    finished, trained = run(checkpoint=path)  # a finished run is only read back
    assert trained.resumed_from == SETTINGS.steps
    assert_same_state(finished.state_dict(), expected.state_dict())


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    expected, _ = run()
    write = state.dcp.save

    def full_at_ten(*args, **options):
        if (tmp_path / "step_00000005").exists():
            raise OSError(28, "No space left on device")
        write(*args, **options)

    monkeypatch.setattr(state.dcp, "save", full_at_ten)
    with pytest.raises(OSError, match="No space"):
        run(checkpoint=tmp_path, checkpoint_every=5)
    monkeypatch.undo()
    resumed, trained = run(checkpoint=tmp_path, checkpoint_every=5)
    assert trained.resumed_from == 5
    assert_same_state(resumed.state_dict(), expected.state_dict())


def test_two_runs_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(world, "ENDING_S", 0.0)

    def meanwhile(step, generator):
        with pytest.raises(CheckpointError, match=f"another process trains in {tmp_path}"):
            run(checkpoint=tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path, loss_of=lambda model: meanwhile)
    _, trained = run(checkpoint=tmp_path)  # free again
    assert trained.resumed_from == 0


def test_a_folder_that_is_freed_soon_is_waited_for(tmp_path):
    held = ExitStack()
    held.enter_context(sole_holder(tmp_path, CheckpointError("held")))
    threading.Timer(0.3, held.close).start()
    assert len(run(checkpoint=tmp_path)[1].series["loss"]) == 3


def test_other_settings_are_refused_by_name(tmp_path):
    run(checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=r"learning_rate 0\.01 -> 0\.02"):
        run(replace(SETTINGS, learning_rate=0.02), checkpoint=tmp_path)


@pytest.mark.parametrize("name", ["checkpoint_every", "snapshot_every"])
def test_an_interval_of_no_step_is_refused_before_anything_is_trained(tmp_path, name):
    with pytest.raises(SettingsError, match=f"{name} must be at least 1, got 0"):
        run(checkpoint=tmp_path, **{name: 0})
    assert list(tmp_path.iterdir()) == []


def test_another_identity_is_refused_by_name(tmp_path):
    run(checkpoint=tmp_path, identity={"method": "se", "scales": (2, 4)})
    run(checkpoint=tmp_path, identity={"method": "se", "scales": (2, 4)})
    with pytest.raises(CheckpointError, match="method 'se' -> 'plain'"):
        run(checkpoint=tmp_path, identity={"method": "plain", "scales": (2, 4)})


def test_the_parts_of_a_step_get_the_same_noise_and_are_averaged(tmp_path):
    calls = []

    def linear(model):
        def loss(step, generator, part):
            index, _ = part
            noise = torch.randn(3, generator=generator)
            calls.append((step, part, noise.tolist()))
            # gradient index + 1 for every weight, and three scalars that differ between parts
            return (index + 1) * sum(p.sum() for p in model.parameters()), {"index": torch.tensor(float(index))}

        return loss

    settings = replace(SETTINGS, steps=4, accumulation=3)
    gradients = []

    def watched(model):
        model[3].bias.register_post_accumulate_grad_hook(lambda p: gradients.append(p.grad[0].item()))
        return linear(model)

    _, trained = run(settings, loss_of=watched)
    assert [(step, part) for step, part, _ in calls] == [(k, (i, 3)) for k in range(4) for i in range(3)]
    noises = [tuple(noise) for _, _, noise in calls]
    assert all(noises[3 * k] == noises[3 * k + 1] == noises[3 * k + 2] for k in range(4))
    assert len(set(noises)) == 4
    assert gradients[2::3] == pytest.approx([2.0] * 4)  # the mean of 1, 2 and 3
    assert trained.series["index"] == [1.0]


def test_an_interrupted_run_may_go_on_with_another_number_of_parts(tmp_path):
    def in_parts(model):
        def loss(step, generator, part=(0, 1)):
            index, parts = part
            x = DATA[batch_indices(step, 8, len(DATA), SETTINGS.seed)].chunk(parts)[index]
            return (model(x) - x).square().mean()

        return loss

    def layers():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4))  # nothing looks at the whole batch

    def train_layers(settings, **options):
        model = layers()
        return train(model, in_parts(model), settings, progress=False, log_every=1, checkpoint_every=5, **options)

    whole = train_layers(SETTINGS)
    train_layers(replace(SETTINGS, accumulation=2), checkpoint=tmp_path)
    shutil.rmtree(tmp_path / "step_00000012")  # leaves the checkpoint of step 10
    resumed = train_layers(replace(SETTINGS, accumulation=4), checkpoint=tmp_path)
    assert resumed.resumed_from == 10
    assert resumed.series["loss"] == pytest.approx(whole.series["loss"], rel=1e-5)


def test_snapshots_are_kept_and_continue_after_a_stop(tmp_path):
    def with_snapshots(settings, **options):
        model = network()
        options |= {"snapshot": lambda: {"weight": [model[0].weight.abs().sum().item()]}, "snapshot_every": 5}
        return train(model, denoising(model), settings, progress=False, log_every=4, **options)

    whole = with_snapshots(SETTINGS)
    assert [shot["step"] for shot in whole.snapshots] == [0, 5, 10, 12]
    assert len({tuple(shot["weight"]) for shot in whole.snapshots}) == 4
    with_snapshots(SETTINGS, checkpoint=tmp_path, checkpoint_every=7)
    shutil.rmtree(tmp_path / "step_00000012")  # leaves the checkpoint of step 7
    again = with_snapshots(SETTINGS, checkpoint=tmp_path, checkpoint_every=7)
    assert again.resumed_from == 7
    assert again.snapshots == whole.snapshots


def test_snapshots_may_be_of_the_averaged_weights():
    model, seen = network(), []
    options = {"snapshot_every": SETTINGS.steps, "snapshot_average": True, "progress": False}
    trained = train(model, denoising(model), SETTINGS, snapshot=lambda ema: seen.append(ema) or {}, **options)
    assert_same_state(seen[0], network().state_dict())  # a copy: training does not change it
    assert_same_state(seen[1], trained.ema)
    assert not torch.equal(trained.ema["0.weight"], model[0].weight)


def test_scalars_are_handed_on_and_samples_are_named():
    seen = []
    run(on_log=lambda step, values: seen.append((step, sorted(values))))
    assert seen == [(step, ["learning_rate", "loss", "rmse"]) for step in (4, 8, 12)]
    with pytest.raises(TrainingDiverged, match="at step 0, on items 3 and 4; the weights"):
        run(loss_of=lambda m: lambda s, g: denoising(m)(s, g)[0] * math.nan, samples=lambda step: "items 3 and 4")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(bad):
    def loss_of(model):
        inner = denoising(model)
        return lambda step, generator: inner(step, generator)[0] * (bad if step == 2 else 1)

    model = network()
    with pytest.raises(TrainingDiverged, match=f"the loss is {bad} at step 2") as caught:
        train(model, loss_of(model), SETTINGS, progress=False)
    assert caught.value.step == 2
    assert_parameters_after_two_steps(model)


def test_a_run_that_diverges_may_be_kept_as_it_was_before(tmp_path):
    def loss_of(model):
        inner = denoising(model)
        return lambda step, generator: inner(step, generator)[0] * (math.nan if step == 2 else 1)

    model = network()
    kept = train(model, loss_of(model), SETTINGS, keep_diverged=True, progress=False)
    assert kept.diverged_at == 2
    assert all(value.isfinite().all() for value in kept.ema.values())
    assert_parameters_after_two_steps(model)
    assert run(keep_diverged=True)[1].diverged_at is None


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change():
    def loss_of(model):
        def loss(step, generator):
            value = denoising(model)(step, generator)[0]
            # sqrt has an infinite slope at 0: the value is finite, the gradient is not
            return value + (model[0].weight.sum() * 0).sqrt() if step == 2 else value

        return loss

    model = network()
    with pytest.raises(TrainingDiverged, match=r"gradient norm is .* at step 2"):
        train(model, loss_of(model), SETTINGS, progress=False)
    assert_parameters_after_two_steps(model)


def assert_parameters_after_two_steps(model):
    reference = network()

    class Stop(Exception):
        pass

    def loss(step, generator):
        if step == 2:
            raise Stop
        return denoising(reference)(step, generator)

    with pytest.raises(Stop):
        train(reference, loss, SETTINGS, progress=False)
    for wanted, got in zip(reference.parameters(), model.parameters(), strict=True):
        assert torch.equal(wanted, got)


def test_average_has_the_stated_half_life_and_holds_buffers():
    model = nn.Linear(1, 1)
    model.register_buffer("count", torch.tensor(0))
    model.register_buffer("moving", torch.tensor(0.0))
    average = _Average(model, half_life=10)
    start = model.weight.item()
    with torch.no_grad():
        model.weight += 1
        model.moving += 1
        model.count += 3
    for _ in range(10):
        average.update(model)
    assert average.state["weight"].item() == pytest.approx(start + 0.5, abs=1e-6)
    assert average.state["moving"].item() == pytest.approx(0.5, abs=1e-6)
    assert average.state["count"].item() == 3


def test_frozen_parameters_stay_and_nothing_to_train_is_an_error():
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, denoising(model), SETTINGS, progress=False)
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(model[3].weight, network()[3].weight)
    with pytest.raises(ValueError, match="nothing to train"):
        train(model.requires_grad_(False), denoising(model), SETTINGS, progress=False)


def test_clipping_bounds_the_gradient(monkeypatch):
    norms = []
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, *a: norms.append(
            math.sqrt(sum(p.grad.square().sum().item() for group in self.param_groups for p in group["params"]))
        ),
    )
    run(replace(SETTINGS, clip=0.01))
    assert norms == pytest.approx([0.01] * SETTINGS.steps, rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Where reading a number waits for the device


@pytest.fixture
def late(monkeypatch):
    """The loop as on CUDA: the fused optimiser leaves bad steps out, and numbers are read now and then."""
    monkeypatch.setattr(loop, "_reads_late", lambda device: True)


class Reads(TorchDispatchMode):
    """Counts how often a number is read out of a tensor."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_numbers_are_read_at_log_intervals_only(late):
    settings = replace(SETTINGS, steps=40)
    with Reads() as once:
        model = network()
        train(model, denoising(model), settings, log_every=40, progress=False)
    with Reads() as often:
        model = network()
        train(model, denoising(model), settings, log_every=10, progress=False)
    each = once.count
    assert 0 < each <= 4  # loss and scalars of the one entry
    assert often.count == 4 * each


def test_reading_late_changes_no_result(monkeypatch):
    model, trained = run()
    monkeypatch.setattr(loop, "_reads_late", lambda device: True)
    other, again = run()
    assert again.series["loss"] == pytest.approx(trained.series["loss"], rel=1e-4)
    for name in ("0.weight", "1.weight", "3.weight", "3.bias"):  # what precedes a batch norm's mean has no gradient
        torch.testing.assert_close(other.state_dict()[name], model.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_loss_that_is_read_late_leaves_the_weights_before_it(late, tmp_path, bad):
    def loss_of(model):
        inner = denoising(model)
        return lambda step, generator: inner(step, generator)[0] * (bad if step == 2 else 1)

    model = network()
    with pytest.raises(TrainingDiverged, match=f"the loss is {bad} at step 2, on items of 2"):
        train(model, loss_of(model), SETTINGS, progress=False, log_every=6, checkpoint=tmp_path, checkpoint_every=4,
              samples=lambda step: f"items of {step}")  # fmt: skip
    assert not list(tmp_path.iterdir())
    assert_parameters_after_two_steps(model)


def test_a_bad_gradient_that_is_read_late_leaves_the_weights_before_it(late):
    def loss_of(model):
        inner = denoising(model)
        return lambda step, generator: (
            inner(step, generator)[0] + ((model[0].weight.sum() * 0).sqrt() if step == 2 else 0)
        )

    model = network()
    with pytest.raises(TrainingDiverged, match=r"gradient norm is .* at step 2"):
        train(model, loss_of(model), SETTINGS, progress=False)
    assert_parameters_after_two_steps(model)


def test_resuming_is_exact_where_numbers_are_read_late(late, tmp_path):
    expected, _ = run()
    run(checkpoint=tmp_path, checkpoint_every=5)
    shutil.rmtree(tmp_path / "step_00000012")
    resumed, trained = run(checkpoint=tmp_path, checkpoint_every=5)
    assert trained.resumed_from == 10
    assert_same_state(resumed.state_dict(), expected.state_dict())


# ---------------------------------------------------------------------------------------------------------------------
# Reading ahead


def ahead_of(make, steps=6):
    """As for CUDA, with a thread, but nothing is moved."""
    ahead = ReadAhead(make, lambda step: step + 1 if step + 1 < steps else None)
    ahead._pool = ThreadPoolExecutor(1)
    return ahead


def test_what_comes_next_is_made_meanwhile():
    made, waits = [], threading.Event()

    def make(step):
        made.append(step)
        if step == 2:
            waits.set()
        return torch.tensor(step), "as it is"

    ahead = ahead_of(make)
    assert ahead(0) == (torch.tensor(0), "as it is")
    assert waits.wait(60)  # steps 1 and 2 are made without being asked for
    assert [ahead(step)[0].item() for step in range(1, 6)] == [1, 2, 3, 4, 5]
    assert made == [0, 1, 2, 3, 4, 5]
    assert ahead(1)[0].item() == 1  # any other step is made when asked for


def test_an_error_ahead_is_raised_when_its_turn_comes():
    def make(step):
        if step == 2:
            raise ValueError("item 2 is broken")
        return (torch.tensor(step),)

    ahead = ahead_of(make)
    assert [ahead(step)[0].item() for step in (0, 1)] == [0, 1]
    with pytest.raises(ValueError, match="item 2 is broken"):
        ahead(2)


def test_batches_read_ahead_are_those_read_in_turn():
    images = [torch.full((3, 2, 2), float(i)) for i in range(7)]
    plain, ahead = (Batches(images, 3, seed=1, steps=6) for _ in range(2))
    ahead._ahead._pool = ThreadPoolExecutor(1)
    assert all(torch.equal(plain(step), ahead(step)) for step in (0, 1, 2, 3, 4, 5, 2))


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, index):
        if index == 5:
            raise SettingsError(f"number {index} is broken")
        return torch.full((2,), float(index))


def test_workers_are_told_of_the_next_batches_only():
    numbers = [torch.full((2,), float(i)) for i in range(7)]
    batches = Batches(numbers, 2, seed=1, steps=10**5, workers=1)
    batches.places = Counted(batches.places)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(batches(0), Batches(numbers, 2, seed=1, steps=1)(0))
    assert batches.places.calls < 10
    assert torch.equal(torch.get_rng_state(), before)  # what else is random in a run does not depend on workers


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_an_item_is_said_as_plainly_by_workers(workers):
    batches = Batches(Numbers(), 7, seed=1, steps=2, workers=workers)
    with pytest.raises(SettingsError, match=r"^number 5 is broken$"):
        batches(0)


# ---------------------------------------------------------------------------------------------------------------------
# Streams


def test_streams_are_functions_of_seed_purpose_and_index():
    keys = [(seed, purpose, index) for seed in (0, 1) for purpose in ("sample", "noise") for index in (0, 1)]
    numbers = [tuple(torch.randn(4, generator=stream(*key)).tolist()) for key in keys]
    of_steps = [tuple(torch.randn(4, generator=generator_at(s, k)).tolist()) for s in (0, 1) for k in (0, 1)]
    assert len({*numbers, *of_steps}) == 12
    assert numbers[-1] == tuple(torch.randn(4, generator=stream(1, "noise", 1)).tolist())


def test_the_streams_of_fine_tuning_stay_as_they_are():
    """Recorded fine-tunings are repeatable bit for bit."""
    assert torch.randint(10**6, (3,), generator=generator_at(5, 7)).tolist() == [639455, 705168, 678088]
    assert batch_indices(3, 4, 10, seed=5) == [4, 2, 5, 0]


def test_whoever_watches_is_told_of_everything_once_also_after_a_stop(tmp_path):
    def watched(steps):
        told = []
        model = network()
        train(
            model, denoising(model), replace(SETTINGS, steps=12), log_every=4, snapshot_every=6, progress=False,
            snapshot=lambda: {"words": "a snapshot"}, checkpoint=tmp_path, checkpoint_every=8,
            on_log=lambda step, values: stop_at(step, steps), watch=lambda step, values: told.append((step, values)),
        )  # fmt: skip
        return told

    def stop_at(step, steps):
        if step > steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched(8)
    told = watched(12)
    assert [step for step, values in told if "loss" in values] == [4, 8, 12]
    assert [step for step, values in told if "words" in values] == [0, 6, 12]
