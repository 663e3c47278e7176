"""Diffusability: how easily a diffusion model learns an autoencoder's latent space, measured and improved."""

__version__ = "0.1.0"
