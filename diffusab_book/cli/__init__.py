"""``diffusab``: the package from a shell."""
