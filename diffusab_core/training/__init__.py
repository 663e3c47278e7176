"""One training loop for any number of processes, resumed exactly."""

from diffusab_core.training.loop import LossFn, Settings, Trained, TrainingDiverged, train
from diffusab_core.training.order import batch_indices, generator_at

__all__ = ["LossFn", "Settings", "Trained", "TrainingDiverged", "batch_indices", "generator_at", "train"]
