"""The whole pipeline: model in, engine out. Start with build.py, the compiler's story."""
