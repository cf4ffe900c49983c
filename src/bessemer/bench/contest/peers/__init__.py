"""The runtimes that can take part, one file each; `@peer` registers a class."""
