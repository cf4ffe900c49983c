"""Assembles a small network without a model file, builds it and runs it.

python examples/network_by_hand.py
"""

import numpy as np

import bessemer


def main() -> None:
    """Two convolutions with a sum around them, then the largest value of each channel."""
    random = np.random.default_rng(0)
    builder = bessemer.Builder()
    network = builder.create_network("by-hand")
    x = network.add_input("x", "f32", (1, 8, 32, 32))
    y = x
    for number in (1, 2):
        weight = random.normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32)
        y = network.add("Conv", y, weight, name=f"conv{number}", pads=(1, 1, 1, 1))
        y = network.add("Relu", y, name=f"relu{number}")
    y = network.add("Add", y, x, name="sum")
    network.mark_output(network.add("GlobalMaxPool", y, name="largest"), "y")

    engine = builder.build(network)
    print(engine.inspect())
    outputs = engine.run({"x": random.normal(0, 1, (1, 8, 32, 32)).astype(np.float32)})
    print(outputs["y"].reshape(8))


if __name__ == "__main__":
    main()
