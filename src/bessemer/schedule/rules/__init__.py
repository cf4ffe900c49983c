"""Schedule rules, one file per class of kernel: when it applies, its knobs, its primitives."""
