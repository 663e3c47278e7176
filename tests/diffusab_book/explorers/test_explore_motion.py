"""The explorer of speed shows the energies that it is given, and counts what is too fast."""

import pytest
import torch

from diffusab_book.explorers.motion import FLOOR, motion_explorer

ROW = torch.linspace(-1, 1, 8)


def moved(row, speed):
    return torch.stack([row.roll(int(speed) * t) for t in range(16)])


def energies(seen):
    """Half of the energy at ω = -1/2 and half at ω = 0, whatever is seen, all at ν = 1/8."""
    found = torch.zeros(16, 5)
    found[0, 1] = found[8, 1] = 2 + seen[1, 0]
    return found


def test_it_draws_the_row_over_time_and_the_decades_of_its_energy():
    explorer = motion_explorer(ROW, moved, energies, (0.0, 1.0), 0.0)
    figure = explorer.draw(speed=1.0)
    image, plane = figure.data
    assert image.type == "image"
    assert (len(plane.z), len(plane.z[0])) == (16, 5)
    assert plane.z[0][1] == plane.z[8][1] == 0
    assert plane.z[1][1] == FLOOR
    assert (plane.y[0], plane.y[8], plane.x[1]) == (-0.5, 0, 1 / 8)
    assert figure.layout.annotations[1].text == "50% beyond the dotted lines"
    assert sorted({shape.y0 for shape in figure.layout.shapes}) == [-1 / 8, 1 / 8]


@pytest.mark.parametrize(("every", "said"), [(1, "0%"), (2, "50%")])
def test_what_is_at_the_line_is_not_beyond_it(every, said):
    figure = motion_explorer(ROW, moved, energies, (0.0,), 0.0, every).draw(speed=0.0)
    assert figure.layout.annotations[1].text == f"{said} beyond the dotted lines"


def test_published_form_has_a_frame_for_each_speed():
    figure = motion_explorer(ROW, moved, energies, (0.0, 1.0, 2.0), 1.0).published()
    assert [frame.name for frame in figure.frames] == ["0.0", "1.0", "2.0"]
    sources = [frame.data[0].source for frame in figure.frames]
    assert len(set(sources)) == 3
