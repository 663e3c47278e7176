"""``diffusab``: the package from a shell. Each command parses, calls one function, and reports.

A command's module is imported when the command is run, so that ``diffusab --help`` and a mistyped name take no time.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from diffusab_book.cli import early, options

#: Where each command is; its function has its name.
COMMANDS = {
    "profile": "report",
    "report": "report",
    "train-autoencoder": "autoencoder",
    "finetune": "finetune",
    "evaluate": "finetune",
    "extract": "latents",
    "train": "denoiser",
    "sample": "denoiser",
    "evaluate-samples": "samples",
    "doctor": "samples",
    "run": "chapters",
    "models": "chapters",
    "sweep": "sweeps",
    "status": "sweeps",
    "collect": "sweeps",
    "fetch": "sweeps",
}


def _first_sentence(name: str) -> str:
    """Of the docstring of a command's function, without importing it."""
    source = Path(__file__).with_name(f"{COMMANDS[name]}.py").read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    return (ast.get_docstring(functions[name.replace("-", "_")]) or "").split("\n\n")[0]


class Commands(TyperGroup):
    """The commands, each loaded when it is run."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        return options.REGISTERED.get(name) or TyperCommand(name, help=_first_sentence(name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            with options.in_one_line("nothing was written"):
                early.look(args[0], args[1:])
            importlib.import_module(f"diffusab_book.cli.{COMMANDS[args[0]]}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.callback()
def main() -> None:
    """Diffusability: how easily a diffusion model can learn an autoencoder's latents, and why."""
