"""The one writer of SVG: what it draws, inline and as a file."""

import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.reports.drawing import Drawing, Symlog

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawing():
    picture = Drawing("demo", 100, 50, "a < b & c")
    picture.line(0, 1, 2.25, 3, "rail")
    picture.rectangle(1, 2, -3, 4, "bar", "5 < 6")
    picture.rectangle(1, 2, 3, 4, "bar", opacity=0.125)
    picture.polyline([(0, 0), (1.04, 2)], "c1 wide")
    picture.text(3, 4, "<script>", "small", "end")
    picture.diamond(10, 10, 2, "pair")
    return picture


def test_a_file_is_the_inline_picture_with_a_namespace_and_a_style(drawing):
    inline = str(drawing.render())
    assert "<style" not in inline
    assert "\n" not in inline
    file = drawing.file(".rail > * { stroke: red; }")
    root = ET.fromstring(file)
    (style,) = root.iter(f"{SVG}style")
    assert style.text == ".rail > * { stroke: red; }"
    root.remove(style)
    assert [(e.tag.removeprefix(SVG), e.attrib, e.text) for e in root.iter()][1:] == [
        (e.tag, e.attrib, e.text) for e in ET.fromstring(inline).iter()
    ][1:]
    assert len(file.splitlines()) == 1 + len(root), "one element a line, for readable differences"


def test_shapes_have_their_coordinates_classes_and_tips(drawing):
    root = ET.fromstring(str(drawing.render()))
    assert root.attrib == {
        "viewBox": "0 0 100 50", "width": "100", "role": "img", "aria-labelledby": "demo-title",
    }  # fmt: skip
    title, line, bar, shaded, path, text, diamond = root
    assert title.text == "a < b & c"
    assert line.attrib == {"class": "rail", "x1": "0", "y1": "1", "x2": "2.2", "y2": "3"}
    assert (bar.get("width"), bar[0].text) == ("0", "5 < 6")
    assert shaded.get("fill-opacity") == "0.12"
    assert (path.get("points"), path.get("class")) == ("0,0 1,2", "c1 wide")
    assert (text.text, text.get("text-anchor"), text.get("class")) == ("<script>", "end", "small")
    assert diamond.get("points") == "10,8 12,10 10,12 8,10"


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_the_axis_keeps_the_order_of_values_and_its_ends(one, other):
    scale = Symlog(-1e4, 1e4, 0.05, 10, 470)
    assert (scale(-1e4), scale(1e4)) == (pytest.approx(10), pytest.approx(470))
    assert (scale(one) <= scale(other)) == (one <= other) or math.isclose(scale(one), scale(other), rel_tol=1e-12)


def test_the_axis_is_linear_near_zero_and_logarithmic_far_from_it():
    scale = Symlog(-1.0, 1e4, 0.05, 0, 1_000)
    near = [scale(value) - scale(0) for value in (1e-6, 2e-6, 3e-6)]
    assert near[1] == pytest.approx(2 * near[0], rel=1e-3)
    assert near[2] == pytest.approx(3 * near[0], rel=1e-3)
    assert scale(1e4) - scale(1e3) == pytest.approx(scale(1e3) - scale(1e2), rel=1e-2)


def test_ticks_lie_inside_and_far_enough_apart():
    scale = Symlog(-0.2, 12.0, 0.1, 16, 460)
    ticks = scale.ticks()
    assert ticks == [-0.1, 0.0, 0.1, 1.0, 10.0]
    places = [scale(value) for value in ticks]
    assert all(after - before > 24 for before, after in itertools.pairwise(places))
