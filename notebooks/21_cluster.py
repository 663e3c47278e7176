# ---
# jupyter:
#   book:
#     needs: [chap-denoiser]
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] slideshow={"slide_type": "slide"}
# (chap-cluster)=
# # From a chapter to a cluster
#
# **In short.** A run is a notebook, its parameters, a seed and a size; where it is computed is no part of it. So one sweep file
# makes the same records on a laptop and on a cluster. A run that is preempted goes on from its last checkpoint, one that fails
# stops no other, and the same command, given again, makes only what is missing.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
seeds: list[int] = [0, 1]  # of the sweep that is run here
jobs: int = 2  # at the same time
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import json
import tempfile
import time
from pathlib import Path

from diffusab_book import chapters, figures, results
from diffusab_book.runs import RunSpec
from diffusab_book.sweeps import collect, driver, files, status
from diffusab_book.sweeps.plan import plan

run = chapters.start(
    "21_cluster",
    globals(),
    data="crops of the photographs, fine-tuning for 4 steps",
)
story = json.loads((results.RESULTS.parent / "cluster_story.json").read_text())

# %% jupyter={"source_hidden": true} tags=["hide-input"]
names = list(dict.fromkeys(job["run"] for job in story["jobs"]))[::-1]
colors = {"completed": 2, "failed": 3, "cancelled": 6, "preempted": 1}
bars = {}
for job in story["jobs"]:
    x, y = bars.setdefault(job["state"].lower(), ([], []))
    x += [job["start_s"], job["end_s"], float("nan")]
    y += [names.index(job["run"]), names.index(job["run"]), float("nan")]
steps = [[s["at_s"], names.index(s["run"])] for s in story["steps"]]
bars["a step done"] = tuple(zip(*steps, strict=True))
styles = {s: {"color": c, "dash": "solid", "width": 16} for s, c in colors.items()}
styles["a step done"] = {"mode": "markers", "color": "black", "size": 5}
timeline = figures.lines(
    bars,
    xlabel="seconds after the first job began",
    styles=styles,
    height=380,
    alt="A bar for each Slurm job of six runs over time. One run's job fails and one's is cancelled; both have a second, "
    "completed job after the sweep was called again. One run is preempted and completed in a second job. The other three have "
    "one completed job each. Dots mark the steps, of which no run has one twice.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
for i, mark in enumerate(story["marks"]):
    timeline.add_vline(x=mark["at_s"], line_width=1, annotation_text=f"({i + 1})")
timeline.update_yaxes(
    tickvals=list(range(len(names))),
    ticktext=names,
    range=[-0.5, len(names) - 0.1],
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Six small runs of one sweep on a real Slurm of two nodes, as its accounting tells it. (1) Somebody cancels one run. (2) A job
# of a partition with higher priority pushes another one out. (3) Slurm's controller is killed, while that run is in its second
# job. (4) The same command is given again. (5) Now the driver itself is killed, and the command is given a third time.*
#
# The chapters of this book train for seconds, so that a page can be built anywhere. The statements of {numref}`chap-believe`
# need runs of minutes, on several seeds; what the papers did takes days on eight GPUs. This chapter is about the way from one
# to the other: how to ask for a hundred runs, where to run them, how to read what comes back, and what happens to a run when
# a machine is taken away from it.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - say what makes two runs the same run, and why the machine is not part of it;
# - run one notebook on a laptop, on one GPU, on eight, and on a cluster, with one command each;
# - write a sweep file, read its plan and its costs, run it, and read its table and its figure;
# - say what is lost when a run is preempted, cancelled or killed, and what is not.
# ```
#
# ## What a run is
#
# Full runs are notebooks, too: `notebooks/runs/` has one for each kind (train an autoencoder, fine-tune one, train and judge a
# denoiser, probe an autoencoder). A run's **identity** is twelve hexadecimal digits of four things: the notebook's name, the
# parameters that differ from its defaults, the seed, and the size. Its folder in the store is named by it,
# `runs/NOTEBOOK/IDENTITY/`.

# %% slideshow={"slide_type": "subslide"}
variants = {
    "the notebook's defaults": {},
    "a default, spelt out": {"learning_rate": 1e-4},
    "another rate": {"learning_rate": 2e-4},
    "another method": {"method": "chf"},
}
specs = {
    what: RunSpec.resolve("finetune", "laptop", 0, values)
    for what, values in variants.items()
}
specs["another seed"] = RunSpec.resolve("finetune", "laptop", 1)
specs["another size"] = RunSpec.resolve("finetune", "smoke", 0)
results.show({what: {"identity": spec.identity} for what, spec in specs.items()})

# %% [markdown] slideshow={"slide_type": "slide"}
# A default that is spelt out changes nothing; everything else does. The device, the number of processes and the folder are
# missing on purpose: the same run asked for twice is done once, wherever the first one was computed.
#
# ## One notebook, four places
#
# The same notebook, four times. The size chooses a file of parameters (`notebooks/presets/runs/denoiser/`): `laptop` is what
# this book records, `gpu` is meant for minutes on a single GPU, `paper` is the published recipe; neither of the last two has been
# run. `diffusab` stands for `.venv/bin/diffusab`.
#
# ```bash
# diffusab run denoiser --size laptop            # a laptop
# diffusab run denoiser --size gpu               # one GPU
# diffusab run denoiser --size paper --nproc 8   # eight GPUs
# diffusab sweep denoisers --size paper --on slurm \
#     --gpus 8 --nodes 2 --cpus 64 --workers 7 --time 12:00:00 --partition gpu
# ```
#
# The last one is for a cluster: each run of the sweep becomes a job. With `--nproc`, torchrun starts a denoiser's processes, which
# train with sharded weights and write one checkpoint that any number of processes can read. The notebook then finds the
# training done, and draws, samples and judges. On several nodes srun starts torchrun on each.
#
# What of this was tried? Runs on one core, and on two processes with gloo; a Slurm of two nodes on one machine, where a training
# on both was requeued in the middle and came to the numbers of one that nobody interrupted, bit for bit. NCCL, and machines
# that are really several, were not available.
#
# ## A sweep
#
# A sweep file says what is compared: arms, which differ in parameters, and seeds. It also says beforehand how it will be read:
# the metric that decides, which way is better, and a margin below which a difference is nothing to speak of. Those of this
# book lie in `sweeps/`, one for each table or figure. Here is a small one; a full one has hundreds of steps and three seeds.

# %%
folder = Path(tempfile.mkdtemp())
(folder / "bend.yaml").write_text(f"""
title: Does scale equivariance bend the spectrum in four steps?
source: this chapter
notebook: finetune
metric: after_hf_energy_ratio
better: lower
margin: 0.05
control: plain
size: smoke
seeds: {seeds}
arms:
  plain: {{method: plain}}
  se: {{method: se}}
sizes:
  smoke: {{seeds: {seeds}}}
""")
planned = plan(files.read(folder / "bend.yaml"), root=folder / "runs")
driver.dry_run(planned, driver.Launch(), None, False, print)

# %% [markdown]
# That is `diffusab sweep FILE --dry-run`: the runs, which of them are done, and hours and disk as far as runs of the same
# notebook and size have been measured. Time is taken to grow with the steps and with nothing else: a larger network or batch
# takes longer than the plan says. Now for real, as many at a time as `jobs` says. On a cluster `--on slurm` is added, with what its
# Slurm wants to know (partition, GPUs, time), and the repository lies where all nodes see it.

# %%
launch = driver.Launch(jobs=jobs)
begun = time.monotonic()
driver.run(planned, launch, say=print)
run.metrics["sweep_s"] = time.monotonic() - begun

# %% [markdown]
# Behind this is Snakemake. It knows which runs wait for which, on Slurm it submits them as job arrays, and it is told of
# nothing that is done already. `diffusab status` shows how far the runs are, on every machine:

# %% slideshow={"slide_type": "subslide"}
states = status.look(planned)
results.show(
    {
        planned.label(state.job): {
            "identity": state.job.spec.identity,
            "state": state.kind,
            "steps": str(status.value_of(state.job.spec, "steps")),
        }
        for state in states
    },
    index="run",
)

# %% [markdown]
# `diffusab collect` copies the records into the book and makes one table and one figure of them. Begin with the figure's second
# panel: it has the paired difference to the control, with its 95% interval, against the margin that the file named beforehand.
# Four steps decide nothing, and with a single pair there is not even an interval.

# %% slideshow={"slide_type": "subslide"}
found = collect.frame(planned)
collect.figure(planned, found)

# %% [markdown]
# And the same command again:

# %%
begun = time.monotonic()
driver.run(planned, launch, say=print)
again_s = time.monotonic() - begun

# %% [markdown]
# ## What it costs
#
# Hours of one core that the recorded runs of this book took, from their records. Where a size has no record, its cost is not
# measured; we give no figure for what we have not run.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
kinds = {
    "family": "autoencoders, measured",
    "cut-curves": "cut curves",
    "finetuning": "fine-tuned autoencoders",
    "denoisers": "denoisers: base, plain, SE",
    "freqwarm": "FreqWarm",
}
costs = {}
for name, what in kinds.items():
    recorded = results.frame(name)
    hours = recorded.groupby("size").wall_time_s.sum() / 3600
    run.metrics[f"{name}_hours"] = float(hours.get("laptop", 0))
    measured = {
        place: f"{hours[place]:.1f} h" if place in hours else "not measured"
        for place in ("laptop", "gpu", "paper")
    }
    costs[what] = {
        "runs": len(recorded),
        "minutes a run": recorded.wall_time_s.median() / 60,
        **measured,
    }
results.show(costs, ".1f", index="recorded")

# %% [markdown] slideshow={"slide_type": "slide"}
# All that chapters 6 to 8 show of fine-tuning cost less than four hours of one core, FreqWarm a little more. What makes a study
# expensive is not the single run but the product of arms, seeds and lengths, so a plan comes first.
#
# ## When a machine is taken away
#
# The picture at the top was recorded by the book's own tests. They start a real Slurm on the machine, with two nodes and two
# partitions, and mistreat a sweep of six runs.
#
# - **One run fails.** Its notebook raises an error in its third step. The others go on. The sweep ends with exit status 1, names
#   the run and its error, and says where its log is. It is not tried again by itself, since it would fail again.
# - **One is cancelled** by `scancel`. The sweep says so, and leaves it.
# - **One is preempted** (2). A job of higher priority wants the node, Slurm ends the run and puts it back into its queue.
#   Its second job reads the checkpoint and goes on: steps 0 and 1 were done by the first, 2 and 3 by the second.
#   Slurm holds a requeued job for two minutes before it starts it again; the test told it not to.
# - **The controller is killed** (3). Running jobs do not need it. The driver asks again until it is back.
# - **The command is given again** (4). Four runs are done and not touched; the two others are made. The cancelled
#   one goes on from its own checkpoint, too.
# - **The driver is killed** (5), with a job still running. That job does not notice. The third call finds it in Slurm's queue,
#   waits for it instead of starting it a second time, and ends with everything done.
#
# Every step of every run was done exactly once. What can be lost at most is the work since the last checkpoint: of a denoiser
# every `checkpoint_every` steps (500), of the other trainings a tenth of their steps, at least 50 and at most 500. The records
# are those that the same sweep makes on a laptop, up to when, where and how long, which the test compares.
#
# ## To take away
#
# - A run is what is computed, not where: the same identity on a laptop and on a cluster.
# - One sweep file plans, runs and collects. Give the same command again, and only what is missing is made.
# - Checkpoints decide what a preemption costs. The record does not change by it.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} A grid ★
# :label: ex-cluster-grid
#
# Add `grid: {alpha: [0.1, 1.0]}` to the sweep above. How many runs are there now, and how many of them are new? What does the
# grid do to `plain`, which has no use for $\alpha$?
# ```
#
# ````{solution} ex-cluster-grid
# :class: dropdown
#
# ```python
# text = (folder / "bend.yaml").read_text() + "grid: {alpha: [0.1, 1.0]}\n"
# (folder / "grid.yaml").write_text(text)
# wider = plan(files.read(folder / "grid.yaml", folder), root=folder / "runs")
# print(len(wider.jobs), sum(job.done for job in wider.jobs.values()))
# ```
#
# Twice as many, and none of them is done: the runs so far have the default of $\alpha$, which is another parameter. `plain` is
# run twice with the same outcome, once for each $\alpha$. Better leave the grid, and write two arms of SE.
# ````
#
# ```{exercise} How many seeds? ★
# :label: ex-cluster-seeds
#
# With $n$ pairs the 95% interval of a mean difference is $\pm\, t_{n-1}\,\hat\sigma/\sqrt n$, where $\hat\sigma$ is the standard deviation of
# the differences. By what factor does it shrink from 2 seeds to 3, and from 3 to 6? What does that say about the first
# seed to add?
# ```
#
# ````{solution} ex-cluster-seeds
# :class: dropdown
#
# ```python
# from scipy import stats
# width = {n: stats.t.ppf(0.975, n - 1) / n**0.5 for n in (2, 3, 6)}
# print(width[2] / width[3], width[3] / width[6])
# ```
#
# By 3.6 and by 2.4. With two seeds Student's $t$ has one degree of freedom, and its quantile is 12.7. The third seed is the
# best bargain there is: half as much again, for an interval little more than a quarter as wide.
# ````
#
# ```{exercise} Checkpoints that cost more than they save ★★
# :label: ex-cluster-checkpoints
#
# A checkpoint takes $c$ seconds and a machine is taken away every $T$ seconds on average. Writing one every $\tau$ seconds
# costs the share $c/\tau$ of the time, and a loss costs $\tau/2$ on average. Which $\tau$ is best? Put in $c = 5$ s and
# $T = 8$ h.
# ```
#
# ````{solution} ex-cluster-checkpoints
# :class: dropdown
#
# The share that is lost is $c/\tau + \tau/(2T)$, smallest at $\tau = \sqrt{2cT}$.
#
# ```python
# print((2 * 5 * 8 * 3600) ** 0.5 / 60)
# ```
#
# Every nine minutes; the two costs are then equal and together about 2% of the time. It is a flat optimum: twice or
# half as often costs a quarter more of those 2%.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence above it. If one fails, the sentence has to be rewritten.

# %%
# "A default that is spelt out changes nothing; everything else does."
identities = [spec.identity for spec in specs.values()]
assert identities[0] == identities[1]
assert len(set(identities)) == len(identities) - 1
# "the same command, given again, makes only what is missing"
assert all(state.kind == "done" for state in states)
assert again_s < 5
# "cost less than four hours of one core, FreqWarm a little more"
assert 3 < run.metrics["finetuning_hours"] < 4 < run.metrics["freqwarm_hours"] < 5
# "One run fails", "One is cancelled", "One is preempted", and what the picture numbers
ends = {}
for job in story["jobs"]:
    ends.setdefault(job["run"], []).append(job["state"])
assert [r for r, e in ends.items() if e == ["PREEMPTED", "COMPLETED"]] == [
    "preempted"
]
assert ends["fails"] == ["FAILED", "COMPLETED"]
assert ends["cancelled"] == ["CANCELLED", "COMPLETED"]
assert sum(e == ["COMPLETED"] for e in ends.values()) == 3
words = ["scancel", "priority", "slurmctld", "called again", "driver"]
assert all(w in m["what"] for w, m in zip(words, story["marks"], strict=True))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# "Every step of every run was done exactly once."
done = [(s["run"], s["step"]) for s in story["steps"]]
assert len(set(done)) == len(done)
counts = {name: sum(r == name for r, _ in done) for name in names}
assert counts == {name: 6 if name == "slow" else 4 for name in names}
# "steps 0 and 1 were done by the first, 2 and 3 by the second"
taken = next(m["at_s"] for m in story["marks"] if "priority" in m["what"])
before = [s["step"] for s in story["steps"] if s["run"] == "preempted" and s["at_s"] < taken]  # fmt: skip
assert before == [0, 1]

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
print("defaults, laptop, seed 0:   ", identities[0])
print("a default that is spelt out:", identities[1])
print("SE of the sweep, seed 0:    ", planned.own["se", 0].spec.identity)
print("runs done:                  ", all(state.kind == "done" for state in states))
print("again within five seconds:  ", again_s < 5)
print("each step done once:        ", len(set(done)) == len(done) == 26)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
