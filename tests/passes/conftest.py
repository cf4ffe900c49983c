"""Collects the text tests of passes: cases of input, passes to run, expected graph."""

from pathlib import Path

import pytest

from bessemer.ir.parser import parse_graph
from bessemer.ir.printer import print_graph
from bessemer.ir.verifier import verify
from bessemer.passes.graph_pass import PASSES
from bessemer.passes.runner import run_pass
from bessemer.passes.verification import find_difference, random_inputs, run_quietly


def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".ir":
        return PassFile.from_parent(parent, path=file_path)
    return None


class PassFile(pytest.File):
    """A file of cases, each `-- case NAME`, `-- input`, `-- run pass,pass`, `-- expect`."""

    def collect(self):
        text = self.path.read_text()
        for index, block in enumerate(text.split("-- case ")[1:]):
            name = block.split("\n", 1)[0].strip()
            yield PassCase.from_parent(self, name=name, block=block, index=index)


class PassCase(pytest.Item):
    """Runs the passes on the input graph; compares the text and the answers on random inputs."""

    def __init__(self, *, block, index, **kwargs):
        super().__init__(**kwargs)
        self.block = block
        self.index = index

    def runtest(self):
        _, _, rest = self.block.partition("-- input\n")
        source, _, rest = rest.partition("-- run ")
        passes, _, expected = rest.partition("\n-- expect\n")
        graph = parse_graph(source)
        before = graph.clone()
        reasons = []
        for name in passes.split(","):
            result = run_pass(graph, PASSES.get(name.strip())())
            reasons += [f"// refused {refusal}" for refusal in result.refusals]
        verify(graph)
        found = "\n".join([print_graph(graph, hashes=False), *reasons])
        inputs = random_inputs(before)
        if inputs is not None:
            old, new = run_quietly(before, inputs), run_quietly(graph, inputs)
            assert not isinstance(old, str), old
            assert not isinstance(new, str), new
            assert not find_difference(graph, old, new)
        if self.config.getoption("--update-snapshots"):
            self._update(found)
        elif expected.strip() != found.strip():
            raise PassMismatch(expected.strip(), found)

    def _update(self, found):
        path = Path(self.path)
        blocks = path.read_text().split("-- case ")
        block = blocks[self.index + 1]
        kept = block.partition("\n-- expect\n")[0]
        blocks[self.index + 1] = f"{kept}\n-- expect\n{found}\n\n"
        path.write_text("-- case ".join(blocks).rstrip() + "\n")

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, PassMismatch):
            expected, found = excinfo.value.args
            return f"expected:\n{expected}\n\nfound:\n{found}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, f"{self.path.name}: {self.name}"


class PassMismatch(Exception):
    pass
