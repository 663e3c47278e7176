"""What a curriculum feeds, against Parseval and a linear encoder; the explorer that shows it, live and published."""

import math

import pytest
import torch

from diffusab_book.explorers.curriculum import SHOWN, STEPS, WARMUPS, curriculum_explorer
from diffusab_core.autoencoders import Posterior, wrap
from diffusab_core.latents import LatentsError
from diffusab_core.methods.freqwarm import EVERYTHING, FreqWarm
from diffusab_core.metrics.probes import EDGES, fed_energy


class Strided:
    """A linear encoder that folds: grey, a 2 x 2 mean, every fourth position."""

    def encode(self, x):
        return Posterior(mean=self.features(x)[..., ::4, ::4], std=torch.zeros(()))

    def features(self, x):
        return torch.nn.functional.avg_pool2d(x[:, :2], 2)


class Normed(Strided):
    """The same behind a normalisation layer, so not linear."""

    def features(self, x):
        return super().features(x / x.std((-3, -2, -1), keepdim=True))


def face(model):
    return wrap(model, "by hand", probe=64)


@pytest.fixture(scope="module")
def noise():
    return torch.randn(64, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_steps_of_the_explorer_hold_both_sides_of_every_switch():
    assert {0, STEPS - 1} < set(SHOWN)
    for share, switch in WARMUPS.items():
        assert switch == share * STEPS
        assert {switch // 2, switch - 1, switch} < set(SHOWN)


@pytest.fixture(scope="module")
def explorer(noise):
    return curriculum_explorer(
        noise[0, :, :32, :32].clamp(-1, 1).float(), {"a": face(Fine()), "b": face(FineNormed())}, (0.1, 0.2)
    )


class Fine(Strided):
    """With a latent of 8 x 8 for pictures of 32 x 32."""

    def encode(self, x):
        return Posterior(mean=self.features(x)[..., ::2, ::2], std=torch.zeros(()))


class FineNormed(Normed, Fine):
    """The same with a normalisation layer."""


def test_explorer_shows_the_cutoff_of_the_curriculum(explorer):
    for schedule in ("hard", "linear", "cosine"):
        for step in explorer.slider.options:
            fig = explorer.draw(step=step, r0=0.2, share=0.5, schedule=schedule)
            expected = min(FreqWarm(300, 0.2, schedule).cutoff(step), EVERYTHING)
            curve = dict(zip(fig.data[0].x, fig.data[0].y, strict=True))
            assert list(fig.data[1].x) == [step]
            assert fig.data[1].y[0] == pytest.approx(expected, abs=1e-4)
            assert curve[step] == fig.data[1].y[0]


def test_explorer_shows_the_energies_of_the_step(explorer, noise):
    x = noise[:1, :, :32, :32].clamp(-1, 1).float()
    now, whole = fed_energy(face(Fine()), x, [0.1, math.inf], EDGES)
    drawn = explorer.draw(step=0, r0=0.1)
    assert list(drawn.data[3].y) == pytest.approx((now / whole).tolist(), abs=1e-3)
    after = explorer.draw(step=599, r0=0.1)
    assert set(after.data[3].y) == {1}
    assert after.data[2].source != drawn.data[2].source
    assert "whole" in after.layout.annotations[0].text


def test_explorer_axis_holds_every_bar(explorer):
    top = explorer.draw(step=0).layout.yaxis3.range[1]
    for step in explorer.slider.options:
        for r0 in (0.1, 0.2):
            for bars in explorer.draw(step=step, r0=r0).data[3:]:
                assert max(bars.y) <= top


def test_live_and_published_twin_show_the_same(explorer):
    published = explorer.published()
    menus = [control for control in explorer.controls if control.kind == "menu"]
    combinations = math.prod(len(control.options) for control in menus)
    assert len(published.frames) == combinations * len(explorer.slider.options)
    for values in ({"step": 149, "r0": 0.1, "share": 0.5, "schedule": "linear"},
                   {"step": 299, "r0": 0.2, "share": 0.25, "schedule": "hard"}):  # fmt: skip
        name = f"r0={values['r0']}|share={values['share']}|schedule={values['schedule']}|{values['step']}"
        frame = next(f for f in published.frames if f.name == name)
        live = explorer.draw(**values)
        for place, trace in zip(frame.traces, frame.data, strict=True):
            for key, value in trace.to_plotly_json().items():
                assert live.data[place].to_plotly_json()[key] == value
        texts = [[a["text"] for a in layout.annotations] for layout in (frame.layout, live.layout)]
        assert texts[0] == texts[1]


def test_what_cannot_be_explored_is_refused(noise):
    image = noise[0, :, :32, :32].float()
    with pytest.raises(ValueError, match="at least one autoencoder"):
        curriculum_explorer(image, {})
    with pytest.raises(LatentsError, match=r"0\.9"):
        curriculum_explorer(image, {"a": face(Fine())}, r0s=(0.9,))
