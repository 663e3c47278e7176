"""``diffusab sweep``, ``status``, ``collect`` and ``fetch``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from diffusab_book import runs
from diffusab_book.cli.options import UsageError, command, settle
from diffusab_book.sweeps import collect as collecting
from diffusab_book.sweeps import driver, files
from diffusab_book.sweeps import fetch as fetching
from diffusab_book.sweeps import status as looking
from diffusab_book.sweeps.plan import Plan, plan

File = Annotated[str, typer.Argument(metavar="FILE", help="A sweep file, or its name in sweeps/.")]
Size = Annotated[str | None, typer.Option(help="smoke, laptop, gpu or paper; the file's own when left out.")]
Seeds = Annotated[str | None, typer.Option(metavar="0,1,...", help="Only these seeds of the sweep's.")]
Arms = Annotated[str | None, typer.Option(metavar="ARM,ARM,...", help="Only these arms of the sweep's.")]
Root = Annotated[Path, typer.Option(help="The store of runs: a run is in ROOT/NOTEBOOK/IDENTITY.")]


@command(
    driver.Launch,
    interrupted="runs here were stopped, Slurm's jobs cancelled; what is done stays, the same command goes on",
)
def sweep(
    given: dict[str, Any],
    file: File,
    size: Size = None,
    seeds: Seeds = None,
    arms: Arms = None,
    root: Root = runs.ROOT,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder to which each finished record is copied at once, as NAME/ARM-seedK.json. "
            "[default: book/results of the repository, except at size smoke]"
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where runs compute: auto, cuda, mps or cpu; the notebook's own choice when left out."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make the sweep's runs again, though they are done.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which runs there are, which are done, and what the rest costs.")
    ] = False,
) -> None:
    """Make the runs of a sweep that are missing, here or on a cluster.

    A run that is done is not done again, whoever asked for it; one that was cut off goes on. Of other sweeps, the runs
    that this one refers to are made first. A run that fails does not stop the others.
    """
    launch = settle(driver.Launch, given, device=device)
    planned = _plan(file, size, root, seeds, arms)
    folder = results or (None if planned.size == "smoke" else collecting.default_results())
    if dry_run:
        driver.dry_run(planned, launch, folder, force, typer.echo)
        return
    with driver.ending_as_interrupted():
        driver.run(planned, launch, results=folder, force=force, say=typer.echo)


@command(interrupted="nothing was changed")
def status(
    file: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Sweep files, or names in sweeps/; all when left out."),
    ] = None,
    size: Size = None,
    root: Root = runs.ROOT,
    once: Annotated[bool, typer.Option("--once", help="Say it once, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Show how far the runs of sweeps are: done, running with the time left, failed and why, cut off, waiting."""
    from rich.console import Console, Group
    from rich.live import Live

    planned = _with_runs(file, size, root)
    console = Console()

    def now() -> Group:
        return Group(*(looking.table(one, looking.look(one)) for one in planned))

    if once or not console.is_terminal:
        console.print(now())
        return
    with Live(now(), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(now(), refresh=True)


@command()
def collect(
    file: File,
    size: Size = None,
    root: Root = runs.ROOT,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder for the records. [default: book/results of the repository, except at size smoke]"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for NAME.parquet, NAME.csv and NAME.html, the primary metric by arm.")
    ] = Path("collected"),
    replace: Annotated[
        bool, typer.Option("--replace", help="Put records in the place of older ones of other runs.")
    ] = False,
) -> None:
    """Copy a sweep's finished records into the book, and write them as one table and one figure."""
    planned = _plan(file, size, root)
    folder = results or (None if planned.size == "smoke" else collecting.default_results())
    done = sum(job.done for job in planned.own.values())
    typer.echo(f"{planned.sweep.name}, {planned.size}: {done} of {len(planned.own)} runs are done")
    if folder is not None:  # first: a table that cannot be made must not keep records back
        copied = collecting.copy(planned, folder, replace=replace)
        for path in copied.new:
            typer.echo(path)
        for path in copied.kept:
            typer.echo(f"{path} holds the record of another run and was left alone; --replace renews it")
    for path in collecting.write(planned, out):
        typer.echo(path)


def _plan(file: str, size: str | None, root: Path, seeds: str | None = None, arms: str | None = None) -> Plan:
    chosen = {"seeds": _numbers(seeds), "arms": None if arms is None else [a.strip() for a in arms.split(",")]}
    return plan(files.read(file), size, root, **chosen)


def _numbers(text: str | None) -> Sequence[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds is {text!r}; write whole numbers with commas, such as 0,1,2") from None


def _with_runs(names: list[str] | None, size: str | None, root: Path) -> list[Plan]:
    """The sweeps that are named; else all that have been started in this store, at this size or any."""
    if names:
        return [_plan(name, size, root) for name in names]
    plans = sorted((root / ".sweeps").glob("*-*/plan.json"))
    found = [(json.loads(path.read_text())["sweep"], path.parent.name.rpartition("-")[2]) for path in plans]
    chosen = [(file, of) for file, of in found if size in (None, of)]
    if not chosen:
        raise UsageError(f"no sweep has been started in {root}; name a file")
    there = []
    for file, of in chosen:
        try:
            there.append(_plan(file, of, root))
        except (files.SweepError, FileNotFoundError) as error:  # of one must not hide the others
            said = error if Path(file).is_file() else f"{file} is no longer there"
            typer.secho(f"diffusab: warning: {said}; its runs are left out", fg="yellow", err=True)
    if not there:
        raise UsageError(f"of the sweeps that have been started in {root} none can be read")
    return there


@command(interrupted="what has been fetched stays, the same command goes on")
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to put everything.")],
    sweep: Annotated[
        list[str] | None, typer.Option("--for", metavar="FILE", help="Only what this sweep needs; may be repeated.")
    ] = None,
    size: Size = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="OWNER/NAME", help="A data set of the hub, too; may be repeated.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare what is there with its checksums, and remove what is damaged.")
    ] = False,
) -> None:
    """Fetch weights, feature networks and data into a folder, for nodes without network.

    Everything there is, or what sweeps need. On the nodes, DIFFUSAB_ASSETS=FOLDER makes every command look there.
    ImageNet and Kinetics cannot be fetched: their owners want to be asked.
    """
    if check:
        wrong = fetching.check(folder)
        for line in wrong:
            typer.echo(line)
        if wrong:
            raise fetching.FetchError(f"{len(wrong)} files of {folder} are missing or damaged; fetch them again")
        typer.echo(fetching.describe(folder))
        return
    assets, places = [], []
    for name in sweep or []:
        planned = _plan(name, size, Path("runs"))
        more, bring = fetching.needed(planned)
        assets, places = [*assets, *more], [*places, *bring]
        if not more:
            typer.echo(f"{planned.sweep.name} at size {planned.size} needs nothing that has to be fetched")
    if not sweep:
        assets = fetching.everything()
    assets = list(dict.fromkeys([*assets, *map(fetching.dataset, data or [])]))
    for place in dict.fromkeys(places):
        typer.echo(f"{place} is named by a run and is not here: bring it, or name another place in the sweep")
    if assets:
        fetching.fetch(folder, assets, say=typer.echo)
        typer.echo(fetching.describe(folder))
