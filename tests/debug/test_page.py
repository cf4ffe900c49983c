"""The HTML page is one well-formed document that refers to nothing outside itself."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from bessemer.bench.kernel_table import Roof
from bessemer.bench.roofline import Point, draw_roofline
from bessemer.debug.layered import Box, draw_layers
from bessemer.debug.memory_picture import draw_memory
from bessemer.debug.page import PageData, PageKernel, render_page
from bessemer.engine.plan import MemoryReport, MemoryRow, PassRecord

VOID = {"meta", "path", "rect", "line", "circle", "polyline"}


class Balance(HTMLParser):
    """Checks that every element that opens is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def page() -> str:
    boxes = [
        Box("a", "Conv + Relu", "k0"), Box("b", "MaxPool <2>", "k1", inputs=("a",)),
        Box("c", "Add", "k2", inputs=("a", "b", "unknown")),
    ]
    memory = MemoryReport(
        arena_bytes=4096, weights_bytes=1000, workspace_bytes=0, sum_of_tensors_bytes=8192,
        liveness_lower_bound_bytes=4096,
        table=(MemoryRow("a_out", 0, 2048, 0, 1), MemoryRow("b_out", 2048, 2048, 1, 2, "a_out")),
    )
    return render_page(PageData(
        "model & <co>", [("kernels", "3")], boxes, boxes,
        [PassRecord("fold-constants", True, 9, 5, ("a -> b",))],
        [PageKernel("k0", ("conv1", "relu1"), "conv", "split 16", "f32[1,8]", 10**6, 10**4, 1e-4),
         PageKernel("k1", ("pool",), "loops", "", "f32[1,8]", 0, 10**4)],
        memory, Roof(1e11, 1e10), ["+ fold-constants: a"],
    ))


def test_page_is_well_formed():
    parser = Balance()
    parser.feed(page())
    assert parser.open == []


def test_page_is_self_contained():
    text = page()
    assert not re.search(r'(src|href)\s*=|url\(|@import|<script|<link', text)
    links = set(re.findall(r"https?://[^\"' >]+", text))
    assert links <= {"http://www.w3.org/2000/svg"}


def test_page_shows_everything():
    text = page()
    for wanted in ("model &amp; &lt;co&gt;", "MaxPool &lt;2&gt;", "fold-constants", "split 16",
                   "conv1+relu1", "b_out: 2,048 bytes", "operations per byte"):
        assert wanted in text


def test_layers_follow_the_edges():
    drawing = draw_layers([Box("a", "A"), Box("b", "B", inputs=("a",)), Box("c", "C")])
    assert drawing.count('class="edge"') == 1
    assert drawing.count("<rect") == 3


def test_roofline_marks_what_was_not_measured():
    drawing = draw_roofline(
        [Point("k", 1e6, 1e4, 1e-4), Point("u", 1e6, 1e5), Point("none", 0, 10)], Roof(1e11, 1e10)
    )
    assert drawing.count("<circle") == 2
    assert "not measured" in drawing


def test_empty_memory_draws_nothing():
    assert draw_memory(MemoryReport()) == ""


def test_pictures_are_xml():
    for picture in re.findall(r"<svg.*?</svg>", page(), re.DOTALL):
        assert ElementTree.fromstring(picture).tag.endswith("svg")
