"""The pull of each term: against hand-made gradients, finite steps and the identities that follow from them."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from diffusab_core import autoencoders, data
from diffusab_core.methods import finetuning
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.methods.gradients import TermGradients, term_gradients

X = data.stack(data.Photos(64, "train", seed=3, length=4), range(4))


@pytest.fixture(scope="module")
def autoencoder():
    return autoencoders.load("kl-f8c4")


@pytest.mark.parametrize("settings", [
    Finetuning(method="se"), Finetuning(method="chf", chf_fixed=True), Finetuning(method="plain", kl_weight=1e-3),
    Finetuning(method="plain", soft_weight=0.1),
], ids=["se", "chf", "kl", "soft"])  # fmt: skip
def test_a_small_step_changes_both_terms_as_the_formulas_say(settings, autoencoder):
    """Step along the reconstruction's gradient in a copy: differences over the step are the inner products."""
    found = term_gradients(autoencoder, [X], settings)
    unit = replace(settings, alpha=1.0, soft_weight=float(settings.soft_weight > 0),
                              kl_weight=float(settings.kl_weight > 0))  # fmt: skip
    stepped = copy.deepcopy(autoencoder)
    stepped.module.double()
    x = X.double()
    finetuning.freeze(stepped, unit)
    trained = [p for p in stepped.module.parameters() if p.requires_grad]
    distance = finetuning.distance_of(unit)

    def terms_now():
        drawn = torch.Generator().manual_seed(0)
        return list(finetuning.loss_terms(stepped, x, unit, distance, drawn).values())

    terms = terms_now()
    g = torch.autograd.grad(terms[0], trained)
    eta = 1e-4
    with torch.no_grad():
        for p, direction in zip(trained, g, strict=True):
            p -= eta * direction
        after = terms_now()
    change = [(a - b.detach()).item() / -eta for a, b in zip(after, terms, strict=True)]
    assert change[0] == pytest.approx(found.reconstruction**2, rel=0.02)
    inner = found.cosine * found.reconstruction * found.term
    assert change[1] == pytest.approx(inner, rel=0.05, abs=0.02 * found.reconstruction * found.term)


def test_the_window_is_where_both_changes_are_negative():
    found = TermGradients(reconstruction=3.0, term=2.0, cosine=-0.4, batch_ratios=(1.5,))
    low, high = found.window
    inner = found.cosine * 6
    for alpha in (0.9 * low, 1.1 * low, 0.9 * high, 1.1 * high):
        both = 9 + alpha * inner > 0 and inner + 4 * alpha > 0
        assert both == (low < alpha < high)
    assert math.sqrt(low * high) == pytest.approx(found.equal_weight)


def test_terms_that_agree_leave_every_weight_open():
    assert TermGradients(1.0, 2.0, 0.1, (0.5,)).window == (0.0, math.inf)


def test_the_weight_in_the_settings_does_not_matter_and_nothing_is_changed(autoencoder):
    before = {k: v.clone() for k, v in autoencoder.module.state_dict().items()}
    asked = [p.requires_grad for p in autoencoder.parameters()]
    weak, strong = (term_gradients(autoencoder, [X], Finetuning(method="se", alpha=a)) for a in (0.01, 1.0))
    assert weak == strong
    assert all(torch.equal(before[k], v) for k, v in autoencoder.module.state_dict().items())
    assert asked == [p.requires_grad for p in autoencoder.parameters()]
    assert all(p.grad is None for p in autoencoder.parameters())


def test_chf_that_cuts_nothing_pulls_like_the_reconstruction(autoencoder):
    found = term_gradients(autoencoder, [X], Finetuning(method="chf", chf_ratio=0.001, chf_fixed=True))
    assert found.equal_weight == pytest.approx(1, rel=1e-3)
    assert found.cosine == pytest.approx(1, abs=1e-5)


def test_soft_penalty_does_not_pull_at_the_decoder(autoencoder):
    settings = Finetuning(method="plain", soft_weight=1.0)
    assert term_gradients(autoencoder, [X], settings, "encoder.").term > 0
    with pytest.raises(ValueError, match=r"'soft' with respect to decoder\. is zero"):
        term_gradients(autoencoder, [X], settings, "decoder.")


def test_batches_are_averaged_as_gradients_not_as_norms(autoencoder):
    """What backward() accumulates over the batches, halved, is the gradient whose norm is given."""
    settings = Finetuning(method="chf", chf_fixed=True)
    found = term_gradients(autoencoder, [X[:2], X[2:]], settings, seed=5)
    model, generator = copy.deepcopy(autoencoder), torch.Generator().manual_seed(5)
    finetuning.freeze(model, settings)
    for half in (X[:2], X[2:]):
        terms = finetuning.loss_terms(model, half, settings, finetuning.distance_of(settings), generator)
        terms["reconstruction"].backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item() / 2
    assert found.reconstruction == pytest.approx(norm, rel=1e-4)
    assert len(found.batch_ratios) == 2


@pytest.mark.parametrize(("settings", "match"), [
    (Finetuning(method="plain"), "a loss of two terms is needed, got reconstruction"),
    (Finetuning(method="se", kl_weight=0.1), "got reconstruction, se, kl"),
])  # fmt: skip
def test_a_loss_of_another_number_of_terms_is_refused(settings, match, autoencoder):
    with pytest.raises(ValueError, match=match):
        term_gradients(autoencoder, [X], settings)


def test_no_batch_and_no_such_part_are_refused(autoencoder):
    with pytest.raises(ValueError, match="no batch"):
        term_gradients(autoencoder, [], Finetuning())
    with pytest.raises(ValueError, match="starting with 'middle'"):
        term_gradients(autoencoder, [X], Finetuning(), "middle")
