"""Dead leaves: reproducible, anti-aliased, with the statistics they are made for."""

import hashlib
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.utils.data import DataLoader

from diffusab_core.data import leaves, stack
from diffusab_core.data.leaves import CLASS_NAMES, CLASSES, LeafLaw, Leaves, leaf_clip
from diffusab_core.spectrum import radial_profile, spectral_exponent, windowed_radial_profile


@pytest.fixture(scope="module")
def many() -> torch.Tensor:
    return stack(Leaves(64, labels=False), range(240))


# --- the dataset ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [8, 31, 64])
def test_items_are_images_in_range_with_balanced_labels(resolution):
    dataset = Leaves(resolution, length=30, num_classes=11)
    assert len(dataset) == 30
    assert dataset.class_names == CLASS_NAMES[:11]
    for i, (image, label) in enumerate(dataset):
        assert image.shape == (3, resolution, resolution)
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert -1 <= image.min() < image.max() <= 1
        assert type(label) is int
        assert label == i % 11
    assert i == 29


def test_there_are_at_least_ten_classes_with_names_of_their_own():
    assert len(set(CLASS_NAMES)) == len(CLASSES) >= 10
    assert len({(c.distance, c.form, c.paint) for c in CLASSES}) == len(CLASSES)


def test_an_item_depends_on_seed_and_index_only():
    wanted = Leaves(32, seed=3)[17][0]
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  the global state is what must not matter
    dataset = Leaves(32, seed=3, length=20, labels=False)
    assert not torch.equal(dataset[16], wanted)
    assert torch.equal(dataset[17], wanted)
    assert torch.equal(dataset[-3], wanted)
    assert not torch.equal(Leaves(32, seed=4)[17][0], wanted)


def test_workers_and_shuffling_change_nothing():
    dataset = Leaves(16, length=12, num_classes=12)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=2)
    seen = {int(label): image for images, labels in loader for image, label in zip(images, labels, strict=True)}
    assert sorted(seen) == list(range(12))
    assert all(torch.equal(seen[i], dataset[i][0]) for i in range(12))


def test_another_process_draws_the_same_images():
    code = (
        "import hashlib; from diffusab_core.data.leaves import *; "
        "items = b''.join(Leaves(32, seed=5, labels=False)[i].numpy().tobytes() for i in (40, 3, 8)); "
        "print(hashlib.sha256(items + leaf_clip(7, frames=3, resolution=32).numpy().tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    items = b"".join(Leaves(32, seed=5)[i][0].numpy().tobytes() for i in (40, 3, 8))
    clip = leaf_clip(7, frames=3, resolution=32).numpy().tobytes()
    assert other == hashlib.sha256(items + clip).hexdigest()


def test_held_out_photographs_are_never_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(leaves, "photo", lambda name, original=leaves.photo: opened.append(name) or original(name))
    leaves._atlas.__wrapped__(16)
    assert opened
    assert not {"coffee", "china"} & set(opened)


def test_colours_come_from_the_photographs():
    atlas = leaves._atlas(32)
    known = np.concatenate(
        [
            atlas.image[0, :, int(top) : int(top + height), : int(width)].reshape(3, -1).T.numpy()
            for top, height, width in zip(atlas.top, atlas.height, atlas.width, strict=True)
        ]
    )
    drawn, background = leaves._draw_leaves(np.random.default_rng(0), CLASSES[0], 32, LeafLaw())
    colours = np.concatenate([drawn.first, drawn.second, background[None]])
    assert {tuple(c) for c in colours} <= {tuple(c) for c in known}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 4}, "resolution .*at least 8, got 4"),
        ({"resolution": 64.0}, r"got 64\.0"),
        ({"seed": -1}, "seed .*at least 0, got -1"),
        ({"num_classes": 0}, "num_classes .* got 0"),
        ({"num_classes": 99}, "got 99"),
        ({"length": 0}, "length .* got 0"),
        ({"law": LeafLaw(smallest_px=30)}, "raise the resolution or lower smallest_px"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Leaves(**arguments)


def test_an_index_outside_is_an_index_error():
    with pytest.raises(IndexError, match="index 5 is outside a dataset of 5 items"):
        Leaves(16, length=5)[5]


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [1.0, 2.5, 3.0, 4.0])
def test_radii_have_the_power_law(exponent):
    law = LeafLaw(exponent=exponent, smallest_px=2, largest_share=0.5)
    radii = law.radii(np.random.default_rng(0).random(400_000), 64)
    assert radii.min() >= 2
    assert radii.max() <= 32
    counts, edges = np.histogram(radii, bins=np.geomspace(2, 32, 9))
    density = counts / np.diff(edges)
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(density), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert law.mean_area(64) == pytest.approx(math.pi * (radii**2).mean(), rel=0.02)


def test_at_exponent_three_every_octave_covers_the_same_area():
    radii = LeafLaw(smallest_px=2, largest_share=0.5).radii(np.random.default_rng(0).random(1_000_000), 64)
    area, _ = np.histogram(radii, bins=[2, 4, 8, 16, 32], weights=radii**2)
    assert area / area.sum() == pytest.approx([0.25] * 4, rel=0.05)


@pytest.mark.parametrize("bad", [{"exponent": 0.5}, {"smallest_px": 0.5}, {"coverage": 0}, {"largest_share": math.inf}])
def test_a_law_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be positive"):
        LeafLaw(**bad)


# --- shapes -----------------------------------------------------------------------------------------------------------


def coverage(kind: leaves.LeafClass, radius: float, form: float, angle: float, supersample: int = 0) -> np.ndarray:
    """Coverage on a grid of pixels around one leaf: the ramp, or by counting samples within each pixel."""
    half, per = int(np.ceil(kind.reach(np.array(form)) * radius)) + 3, supersample or 1
    axis = (np.arange(2 * half * per) + 0.5) / per - half - 0.3  # not centred on a pixel
    y, x = np.meshgrid(axis, axis, indexing="ij")
    u, v = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    distance = kind.distance(u, v, np.array(radius), np.array(form))
    if not supersample:
        return np.clip(0.5 - distance, 0, 1)
    return (distance < 0).reshape(2 * half, per, 2 * half, per).mean((1, 3))


@pytest.mark.parametrize("kind", CLASSES, ids=CLASS_NAMES)
def test_every_shape_has_the_stated_area_reach_and_smooth_border(kind):
    for form in kind.form:
        smooth = coverage(kind, 12.0, form, 0.4)
        counted = coverage(kind, 12.0, form, 0.4, supersample=16)
        assert counted.sum() == pytest.approx(math.pi * 144, rel=0.01)
        assert smooth.sum() == pytest.approx(math.pi * 144, rel=0.02)
        # Corners, where two borders meet, are not exact; on the whole border the error is a fraction of the jaggies'.
        border = (counted > 0) & (counted < 1)
        error, jagged = np.abs(smooth - counted)[border], np.abs((counted > 0.5) - counted)[border]
        assert error.mean() < 0.3 * jagged.mean()
        half = smooth.shape[0] // 2
        y, x = np.indices(smooth.shape) + 0.5 - half - 0.3
        covered = np.hypot(x, y)[smooth > 0].max()
        reach = kind.reach(np.array(form)) * 12.0
        assert reach - 1.5 < covered <= reach + 1


@pytest.mark.parametrize(("name", "sides"), [("triangles", 3), ("squares", 4), ("stars", 5), ("petals", 5)])
def test_regular_shapes_turn_into_themselves(name, sides):
    kind, turn = CLASSES[CLASS_NAMES.index(name)], 2 * math.pi / sides
    x, y = np.random.default_rng(0).uniform(-20, 20, (2, 500))
    x2, y2 = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    before, after = (kind.distance(*at, np.array(9.0), np.array(kind.form[0])) for at in ((x, y), (x2, y2)))
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_a_leaf_looks_the_same_in_any_window():
    """Leaves are painted on windows of several sizes, some pushed inside the image: compare with the whole plane."""
    drawn, background = leaves._draw_leaves(np.random.default_rng(1), CLASSES[0], 32, LeafLaw())
    image = leaves._render(drawn, background, CLASSES[0], 32)
    y, x = np.indices((32, 32)) + 0.5
    plain = np.broadcast_to(background[:, None, None], (3, 32, 32)).astype(np.float64)
    for i in range(len(drawn.x)):
        cover = np.clip(0.5 + drawn.radius[i] - np.hypot(x - drawn.x[i], y - drawn.y[i]), 0, 1)
        plain = plain * (1 - cover) + cover * drawn.first[i][:, None, None]
    np.testing.assert_allclose(image, plain, atol=2e-5)


# --- statistics -------------------------------------------------------------------------------------------------------


def test_power_falls_roughly_as_one_over_frequency_squared(many):
    assert 2.0 < spectral_exponent(many) < 2.8  # photographs of natural scenes: about 2, ours about 2.9
    noise = torch.rand(50, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert abs(spectral_exponent(noise)) < 0.1  # what the measurement says of white noise


def test_the_law_of_sizes_sets_the_spectrum():
    small, large = LeafLaw(exponent=4.5, largest_share=0.2), LeafLaw(exponent=1.5, largest_share=0.5)
    discs = [stack(Leaves(64, labels=False, num_classes=1, law=law), range(40)) for law in (small, large)]
    assert spectral_exponent(discs[0]) < spectral_exponent(discs[1]) - 0.3


def test_gratings_hold_more_fine_structure_than_flat_discs(many):
    def fine_share(name: str) -> float:
        frequency, power = windowed_radial_profile(many[CLASS_NAMES.index(name) :: len(CLASSES)])
        return (power * frequency)[frequency > 0.15].sum() / (power * frequency).sum()

    assert fine_share("stripes") > 2 * fine_share("discs")
    assert fine_share("checks") > 1.6 * fine_share("gradients")


def test_classes_can_be_told_apart():
    """A linear classifier on a few statistics of grey images does far better than the 1 in 12 of chance."""
    images = stack(Leaves(32, labels=False, length=1200), range(1200))
    labels = np.arange(1200) % len(CLASSES)
    grey = images.mean(1)
    grey = (grey - grey.mean((1, 2), keepdim=True)) / grey.std((1, 2), keepdim=True)
    power = torch.stack([radial_profile(g, bins=8)[1].log() for g in grey])
    dx, dy = grey[:, 1:, :-1] - grey[:, :-1, :-1], grey[:, :-1, 1:] - grey[:, :-1, :-1]
    edges = torch.hypot(dx, dy).flatten(1).quantile(torch.linspace(0.1, 0.9, 7), dim=1).T
    features = torch.cat([power, edges], dim=1).numpy()
    model = LinearDiscriminantAnalysis().fit(features[:900], labels[:900])
    assert model.score(features[900:], labels[900:]) > 0.3


# --- clips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(len(CLASSES)))
def test_frame_0_is_the_still_image(index):
    clip = leaf_clip(index, frames=2, resolution=32, seed=4)
    assert clip.shape == (3, 2, 32, 32)
    assert clip.dtype == torch.float32
    assert clip.abs().max() <= 1
    assert torch.equal(clip[:, 0], Leaves(32, seed=4)[index][0])
    assert not torch.equal(clip[:, 1], clip[:, 0])


def test_leaves_move_gradually():
    distance = torch.zeros(9)
    for index in range(12):
        clip = leaf_clip(index, frames=9, resolution=32)
        distance += (clip - clip[:, :1]).abs().mean((0, 2, 3))
    assert (distance.diff() > 0).all()  # the further in time, the less alike
    assert distance[1] < 0.5 * distance[8]


def test_leaves_at_rest_stay_and_turning_is_motion():
    still = leaf_clip(1, frames=3, resolution=32, speed=0, spin=0)
    assert torch.equal(still[:, 2], still[:, 0])
    turning = leaf_clip(1, frames=3, resolution=32, speed=0, spin=0.1)
    assert (turning[:, 2] - turning[:, 0]).abs().mean() > 0.01


def test_one_leaf_moves_as_it_was_told():
    """The centre of a lone disc, measured in the picture, follows its velocity."""
    drawn, _ = leaves._draw_leaves(np.random.default_rng(2), CLASSES[0], 64, LeafLaw())
    one = replace(drawn[np.array([0])], radius=np.float32([6]), reach=np.float32([7]), first=np.float32([[1, 1, 1]]))
    y, x = np.indices((64, 64)) + 0.5
    for cx, cy in ((20.0, 30.0), (23.3, 28.4)):
        moved = replace(one, x=np.float32([cx]), y=np.float32([cy]))
        mass = leaves._render(moved, np.zeros(3, np.float32), CLASSES[0], 64)[0]
        assert (mass * x).sum() / mass.sum() == pytest.approx(cx, abs=0.02)
        assert (mass * y).sum() / mass.sum() == pytest.approx(cy, abs=0.02)


def test_motion_uncovers_no_background():
    """Leaves that drift out come back: after a long time as much of the image is covered as at first, 1 - exp(-4)."""
    bare = np.zeros(2)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        drawn, _ = leaves._draw_leaves(rng, CLASSES[0], 32, LeafLaw())
        drawn = replace(drawn, first=np.zeros_like(drawn.first))
        drift = rng.normal(0, 100, (2, len(drawn.x)))
        gone = replace(
            drawn,
            x=leaves._wrap(drawn.x + drift[0], drawn.reach, 32),
            y=leaves._wrap(drawn.y + drift[1], drawn.reach, 32),
        )
        bare += [leaves._render(some, np.ones(3, np.float32), CLASSES[0], 32).mean() for some in (drawn, gone)]
    assert bare / 40 == pytest.approx([math.exp(-4)] * 2, rel=0.35)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames .*at least 1, got 0"),
        ({"index": -1}, "got -1"),
        ({"speed": -0.1}, "not negative, got -0.1"),
        ({"spin": math.nan}, "got 0.01 and nan"),
        ({"resolution": 2}, "at least 8, got 2"),
    ],
)
def test_bad_clips_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        leaf_clip(**{"index": 0, **arguments})
