"""Networks assembled by hand: names, constants, errors that say what to do."""

import numpy as np
import pytest

from bessemer.compiler.api import (
    Builder,
    BuilderConfig,
    Network,
    OptimizationProfile,
    check_plugins,
    plugin,
)
from bessemer.core.errors import (
    SettingsError,
    ShapeError,
    UnsupportedOperatorError,
    VerifyError,
)
from bessemer.ir.interpreter import run_graph
from bessemer.ir.operator import Operator
from bessemer.ir.types import TensorType


def dense_network() -> Network:
    network = Builder().create_network("dense")
    x = network.add_input("x", "f32", ("N", 4))
    w = network.add_constant("w", np.arange(8, dtype=np.float32).reshape(4, 2))
    y = network.add("MatMul", x, w, name="fc")
    y = network.add("Add", y, 1.0, name="shift")
    network.mark_output(y, "y")
    return network


def test_network_computes_what_was_assembled():
    x = np.ones((3, 4), np.float32)
    (y,) = run_graph(dense_network().graph, [x])
    np.testing.assert_allclose(y, x @ np.arange(8, dtype=np.float32).reshape(4, 2) + 1)


def test_layers_and_tensors_are_found_by_name():
    network = dense_network()
    assert [layer.name for layer in network.layers] == ["fc", "shift"]
    assert network.find_layer("fc").inputs[0] is network.find_tensor("x")
    assert str(network.find_tensor("y").type) == "f32[N,2]"
    assert "w" in [tensor.name for tensor in network.tensors]


def test_wrong_names_answer_with_near_ones():
    network = dense_network()
    with pytest.raises(VerifyError, match="no layer is named 'fcc'; near: fc"):
        network.find_layer("fcc")
    with pytest.raises(VerifyError, match="no tensor is named"):
        network.find_tensor("zzz")
    with pytest.raises(UnsupportedOperatorError, match="did you mean MatMul"):
        network.add("Matmul", network.find_tensor("x"))
    with pytest.raises(SettingsError, match="MatMul has no attribute 'alpha'"):
        network.add("MatMul", network.find_tensor("x"), network.find_tensor("w"), alpha=1.0)


def test_names_are_taken_once():
    network = dense_network()
    with pytest.raises(VerifyError, match="'w' is taken"):
        network.add_constant("w", np.zeros(2, np.float32))
    with pytest.raises(VerifyError, match="'fc' is taken"):
        network.add("Add", network.find_tensor("y"), 1.0, name="fc")


def test_misfit_names_the_layer_and_shapes():
    network = dense_network()
    bad = network.add_constant("bad", np.zeros((5, 2), np.float32))
    with pytest.raises(ShapeError, match="misfit"):
        network.add("MatMul", network.find_tensor("x"), bad, name="misfit")


def test_value_of_another_network_is_refused():
    with pytest.raises(VerifyError, match="not of this network"):
        dense_network().mark_output(dense_network().find_tensor("y"))


def test_wrong_extent_and_dtype():
    network = Network()
    with pytest.raises(ShapeError, match="no extent"):
        network.add_input("x", "f32", (-1, 3))
    with pytest.raises(ShapeError, match="unknown dtype 'f33'"):
        network.add_input("x", "f33", (1, 3))


def test_building_without_outputs_says_so():
    network = Network("empty")
    with pytest.raises(VerifyError, match="mark_output"):
        Builder().build(network)


def test_config_checks_names_and_values():
    with pytest.raises(SettingsError, match="'precison'; did you mean precision"):
        BuilderConfig(precison="fp32")
    with pytest.raises(SettingsError, match="precision 'fp12' is not one of"):
        BuilderConfig(precision="fp12")
    with pytest.raises(SettingsError, match="threads"):
        BuilderConfig(threads=0)
    config = BuilderConfig(threads=2)
    with pytest.raises(SettingsError, match="threads"):
        config.threads = -1
    with pytest.raises(SettingsError, match="did you mean threads"):
        config.thread = 1
    assert config.build_options() == {"threads": 2}


def test_profile_orders_its_shapes():
    profile = OptimizationProfile().set_shape("x", (1, 4), (8, 4), (32, 4))
    assert profile.opt_shapes == {"x": (8, 4)}
    with pytest.raises(SettingsError, match="grow in every dimension"):
        profile.set_shape("x", (4, 4), (1, 4), (8, 4))


def test_plugin_is_an_operator():
    @plugin("test.api.Twice")
    class Twice(Operator):
        """y = 2 * x."""

        def infer(self, x: TensorType) -> TensorType:
            return x

        def reference(self, x):
            return x * x.dtype.type(2)

    check_plugins([Twice])
    network = Network()
    x = network.add_input("x", "f32", (3,))
    network.mark_output(network.add("test.api.Twice", x))
    (y,) = run_graph(network.graph, [np.ones(3, np.float32)])
    np.testing.assert_array_equal(y, np.full(3, 2, np.float32))


def test_plugin_mistakes_are_explained():
    with pytest.raises(SettingsError, match="domain"):
        plugin("Foo")
    with pytest.raises(SettingsError, match="must derive from"):
        plugin("test.api.NotOne")(int)
    with pytest.raises(SettingsError, match="no infer method"):
        plugin("test.api.Empty")(type("Empty", (Operator,), {}))

    class Loose(Operator):
        pass

    with pytest.raises(SettingsError, match="not registered"):
        check_plugins([Loose])


def test_builder_builds_what_was_assembled():
    builder = Builder()
    config = builder.create_config(shapes={"N": 3}, threads=1, name="dense")
    engine = builder.build(dense_network(), config)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    expected = x @ np.arange(8, dtype=np.float32).reshape(4, 2) + 1
    np.testing.assert_allclose(engine.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
    assert engine.name == "dense"
    assert engine.find_layer("fc")


def test_building_leaves_the_network_as_it_was():
    network = dense_network()
    before = [layer.name for layer in network.layers]
    Builder().build(network, BuilderConfig(shapes={"N": 1}))
    assert [layer.name for layer in network.layers] == before
    assert str(network.find_tensor("x").type) == "f32[N,4]"


def test_a_profile_gives_the_usual_shape():
    builder = Builder()
    profile = builder.create_profile().set_shape("x", (1, 4), (8, 4), (32, 4))
    engine = builder.build(dense_network(), builder.create_config(profiles=[profile]))
    assert engine.run({"x": np.ones((8, 4), np.float32)})["y"].shape == (8, 2)
