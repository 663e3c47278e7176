"""``diffusab profile`` and ``diffusab report``."""
