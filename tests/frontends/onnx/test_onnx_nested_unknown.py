"""Unknown operators deep inside control flow are reported with their full path, all at once."""

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model

import bessemer
from bessemer.cli.main import main
from bessemer.core.errors import UnsupportedOperatorError
from bessemer.frontends.onnx import check_model

PATHS = (
    "first",
    "/decoder/Loop_3/body/If_7/else_branch/Other",
    "/decoder/Loop_3/body/If_7/then_branch/MyOp",
    "/decoder/Loop_3/body/Scan_1/body/MyOp",
    "/decoder/Loop_3/body/last",
)


def unknown(x, y, name):
    return helper.make_node("Unknown", [x], [y], name=name, domain="my.own")


def nested():
    """Loop[If[unknown | unknown], Scan[unknown], unknown], and an unknown node outside."""
    row = [("v", [2])]
    yes = helper.make_graph([unknown("h", "v", "MyOp")], "yes", [], [info(*row[0])])
    no = helper.make_graph([unknown("h", "v", "Other")], "no", [], [info(*row[0])])
    inner = helper.make_graph(
        [unknown("e", "f", "MyOp"), helper.make_node("Identity", ["s"], ["t"])], "inner",
        [info("s", []), info("e", [])], [info("t", []), info("f", [])],
    )
    body = helper.make_graph(
        [
            helper.make_node("If", ["going"], ["b"], name="If_7", then_branch=yes, else_branch=no),
            helper.make_node("Scan", ["zero", "b"], ["", "c"], name="Scan_1", body=inner,
                             num_scan_inputs=1),
            unknown("c", "next", "last"),
            helper.make_node("Identity", ["going"], ["more"]),
        ],
        "body",
        [info("i", [], TensorProto.INT64), info("going", [], TensorProto.BOOL), info("h", [2])],
        [info("more", [], TensorProto.BOOL), info("next", [2])],
    )
    nodes = [
        unknown("x", "a", "first"),
        helper.make_node("Loop", ["n", "", "a"], ["y"], name="/decoder/Loop_3", body=body),
    ]
    inputs = [("x", [2]), ("n", [], TensorProto.INT64), ("zero", [])]
    return model(nodes, inputs, [("y", [2])], domains=[("my.own", 1)])


def test_the_build_names_all_of_them():
    with pytest.raises(UnsupportedOperatorError, match="5 nodes cannot be compiled") as caught:
        bessemer.build(nested())
    text = str(caught.value)
    positions = [text.index(f"'{path}': Unknown of my.own (opset 1)") for path in PATHS]
    assert positions == sorted(positions)
    assert "bessemer check" in text


def test_check_names_all_of_them(tmp_path, capsys):
    assert tuple(node.path for node in check_model(nested()).unsupported) == PATHS
    path = tmp_path / "nested.onnx"
    onnx.save(nested(), str(path))
    assert main(["check", str(path)]) != 0
    shown = capsys.readouterr()
    for found in PATHS:
        assert found in shown.out + shown.err
