"""The networks, one file per family; each function is registered with `@zoo_model`."""
