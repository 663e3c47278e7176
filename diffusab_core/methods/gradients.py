r"""How hard each term of a fine-tuning loss pulls at the weights, before any training.

With gradients :math:`g_r` of the reconstruction and :math:`g_s` of a further term, a small step of gradient descent on
:math:`L_r + \alpha L_s` changes the two by

.. math:: \Delta L_r = -\eta \bigl(\|g_r\|^2 + \alpha \langle g_r, g_s\rangle\bigr), \qquad
    \Delta L_s = -\eta \bigl(\langle g_r, g_s\rangle + \alpha \|g_s\|^2\bigr)

so with :math:`c` the cosine of the angle between them, negative where they disagree, both fall exactly for

.. math:: -c\,\frac{\|g_r\|}{\|g_s\|} < \alpha < \frac{1}{-c}\,\frac{\|g_r\|}{\|g_s\|}

and for every :math:`\alpha > 0` where they agree. Around :math:`\|g_r\| / \|g_s\|` both terms pull equally hard.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.methods import finetuning
from diffusab_core.methods.finetuning import Finetuning


@dataclass(frozen=True)
class TermGradients:
    r"""Gradients of the reconstruction and of one further term, of weight 1, averaged over batches."""

    reconstruction: float  #: :math:`\|g_r\|`
    term: float  #: :math:`\|g_s\|`
    cosine: float  #: Of the angle between the two
    batch_ratios: tuple[float, ...]  #: :math:`\|g_r\| / \|g_s\|` of each batch; their scatter says how much is chance

    @property
    def equal_weight(self) -> float:
        r"""The :math:`\alpha` at which both terms pull equally hard."""
        return self.reconstruction / self.term

    @property
    def window(self) -> tuple[float, float]:
        r"""Between these :math:`\alpha`, a small step of gradient descent lowers both terms."""
        if self.cosine >= 0:
            return 0.0, math.inf
        return -self.cosine * self.equal_weight, -self.equal_weight / self.cosine


def term_gradients(
    autoencoder: Autoencoder, batches: Iterable[Tensor], settings: Finetuning, part: str = "", seed: int = 0
) -> TermGradients:
    """Measure both gradients of a fine-tuning loss at the autoencoder's present weights, which stay as they are.

    Args:
        autoencoder: What would be fine-tuned.
        batches: Images ``(N, 3, H, W)`` in [-1, 1] on its device.
        settings: A loss of two terms: ``"se"`` or ``"chf"``, or ``"plain"`` with one of soft penalty, KL and R1. The
            weight of the term does not matter.
        part: Only parameters whose names start so, such as ``"encoder."``; by default all that are trained.
        seed: Of everything that a step draws; noise and scale differ from batch to batch.

    Raises:
        ValueError: No batch, not two terms, no parameter of that name, or a gradient of the term that is zero.
    """
    weights = {name: float(getattr(settings, name) > 0) for name in ("soft_weight", "kl_weight", "r1_weight")}
    settings = replace(settings, alpha=1.0, **weights)
    autoencoder = replace(autoencoder, module=copy.deepcopy(autoencoder.module))  # whose freezing nobody sees
    finetuning.freeze(autoencoder, settings)
    trained = [p for name, p in autoencoder.module.named_parameters() if p.requires_grad and name.startswith(part)]
    if not trained:
        raise ValueError(f"no parameter that is trained has a name starting with {part!r}")
    distance = finetuning.distance_of(settings)
    generator = torch.Generator(settings.device).manual_seed(seed)
    sums, ratios = torch.zeros(2, sum(p.numel() for p in trained), dtype=torch.float64), []
    for x in batches:
        terms = finetuning.loss_terms(autoencoder, x, settings, distance, generator)
        if len(terms) != 2:
            raise ValueError(f"a loss of two terms is needed, got {', '.join(terms)}")
        # A parameter that a term does not depend on counts as zero.
        how = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        found = [torch.autograd.grad(term, trained, **how) for term in terms.values()]
        pulls = torch.stack([torch.cat([g.flatten().cpu().double() for g in of]) for of in found])  # (2, P)
        norms = pulls.norm(dim=1)
        if norms[1] == 0:
            raise ValueError(f"the gradient of {list(terms)[1]!r} with respect to {part or 'all'} is zero")
        ratios.append((norms[0] / norms[1]).item())
        sums += pulls
    if not ratios:
        raise ValueError("no batch to measure gradients on")
    mean = sums / len(ratios)
    first, second = mean.norm(dim=1).tolist()
    return TermGradients(first, second, (mean[0] @ mean[1]).item() / (first * second), tuple(ratios))
