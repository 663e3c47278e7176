"""One real Slurm for the tests of this folder, or the reason why there is none."""

import os

import pytest
from slurm_cluster import Cluster, install_packages

WANTED = os.environ.get("DIFFUSAB_SLURM") == "1" or os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def cluster():
    """A running :class:`slurm_cluster.Cluster`; as root under CI=true or DIFFUSAB_SLURM=1, elsewhere a skip."""
    if not WANTED:
        pytest.skip("needs a Slurm of its own: run as root with CI=true or DIFFUSAB_SLURM=1")
    if os.geteuid() != 0:
        pytest.skip("starting a Slurm needs root")
    if reason := install_packages():
        pytest.skip(reason)
    made = Cluster()
    try:
        made.start()
        yield made
    except PermissionError as error:
        pytest.skip(f"this root may not make a device: {error}")
    except AssertionError as error:
        error.add_note(made.logs())
        raise
    finally:
        made.stop()
