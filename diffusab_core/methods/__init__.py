"""The papers, one idea in one module.

SE, CHF, the soft penalty, the averaged KL and EQ-VAE as losses are in ``regularizers``, two that flatten a spectrum in
``spectrum_matching``, AF-LDM's in ``shifts``, the fine-tuning that all of them serve and the recipe of Table 5 in
``finetuning``, how hard each term pulls in ``gradients`` and what it costs in ``cost``, FreqWarm in ``freqwarm``, the
training and sampling of denoisers in ``denoising``, and the same latents with another spectrum, by masks, a filter or
coloured noise, in ``reshaping``. What may tell how easily latents are learned, before any training, is in
``diffusability``, and what of it looks at tokens in ``tokens``. The patch discriminator is in ``adversarial``, and the
diffusion model that is the decoder in ``diffusion_decoder``.
"""
