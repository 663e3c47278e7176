"""Tables of a diffusability report, from numbers that are made up here."""

import re

from test_diagnosis_page import diagnosis, report

from diffusab_book.report import diagnosis_tables
from diffusab_book.report.diagnosis_charts import charts


def test_comparison_has_a_cell_for_each_model():
    rows = list(diagnosis_tables.comparison(report(diagnosis("first"), diagnosis("second", 8, side=4))))
    assert {len(row) for row in rows} == {3}
    assert len({row[0] for row in rows}) == len(rows)
    cells = {row[0]: row[1:] for row in rows}
    assert cells["PSNR, dB"] == ("30.0", "30.0")
    assert cells["Dec(S z) to S Dec(z) at ×4, dB"] == ("∞", "∞")
    assert cells["Compression of each side"] == ("4×", "8×")
    assert cells["Silent channels"] == ("0 of 4", "0 of 4")


def test_numbers_of_a_chart_have_a_row_for_each_place():
    chart = charts(report(diagnosis("<b>first</b>")))["arrival"]
    table = diagnosis_tables.numbers(chart)
    assert "<b>" not in table
    assert re.findall(r'<th scope="row">([^<]*)</th>', table) == [str(place) for place in chart.places]
    cells = re.findall(r"<td>([^<]*)</td>", table)
    assert len(cells) == len(chart.places) * len(chart.columns)
    assert cells.count("–") == sum(value is None for column in chart.columns.values() for value in column) > 0
