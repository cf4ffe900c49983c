"""The whole pipeline: model in, engine out. Start with build.py; it reads as the compiler's story."""
