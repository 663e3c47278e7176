"""One training loop for any number of processes, resumed exactly."""

from diffusab_core.training.batches import Batches
from diffusab_core.training.loop import LossFn, Settings, Trained, TrainingDiverged, learning_rate, train
from diffusab_core.training.order import batch_indices, generator_at
from diffusab_core.training.state import CheckpointError
from diffusab_core.training.world import World

__all__ = [
    "Batches",
    "CheckpointError",
    "LossFn",
    "Settings",
    "Trained",
    "TrainingDiverged",
    "World",
    "batch_indices",
    "generator_at",
    "learning_rate",
    "train",
]
