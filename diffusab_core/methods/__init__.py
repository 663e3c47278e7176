"""The papers, one idea in one module.

SE, CHF, the soft penalty, the averaged KL and EQ-VAE as losses are in ``regularizers``, the fine-tuning that they serve
and the recipe of Table 5 in ``finetuning``, how hard each term pulls in ``gradients`` and what it costs in ``cost``,
FreqWarm in ``freqwarm``, and the training and sampling of denoisers in ``denoising``.
"""
