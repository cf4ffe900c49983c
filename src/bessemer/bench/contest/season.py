"""Contests over several models: makes the models and inputs, measures the limits, races."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from bessemer.bench.contest.race import RaceOptions, race
from bessemer.bench.contest.result import OURS, Contest, Entry
from bessemer.bench.contest.task import Task
from bessemer.bench.limits import measure_limits
from bessemer.engine.plan import KernelStep
from bessemer.runtime.load import load
from bessemer.zoo import ZooOptions, make_model, sample_inputs

ZOO = (
    "squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50", "googlenet", "inception_v3",
    "densenet121", "efficientnet_b0", "vgg16", "yolov8n", "unet", "bert_base", "distilbert",
    "vit_b16", "gpt2_prefill", "mlp", "lstm",
)
"""The networks that are raced unless others are named."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SeasonOptions:
    """What is raced. `folder` keeps models, engines and conversions between calls."""

    folder: Path
    peers: tuple[str, ...]
    threads: int
    batch: int = 1
    streams: int = 1
    race: RaceOptions = field(default_factory=RaceOptions)


def season(models: Sequence[str], options: SeasonOptions, tell: Tell) -> Iterator[Contest]:
    """One contest after the other. A model is a name of the zoo or the path of an ONNX file."""
    options.folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        task = make_task(model, options)

        def hear(runtime: str, what: str, label: str = model) -> None:
            tell(f"{label}: {runtime}: {what}")

        measure_limits.cache_clear()
        limits = measure_limits(options.threads)
        entries = race(task, options.peers, options.race, hear)
        flops, moved = work_of(task, entries)
        yield Contest(task.model.stem.partition("-batch")[0], options.batch, options.threads,
                      options.streams, flops // options.batch, moved // options.batch, limits,
                      tuple(_per_sample(each, options.batch) for each in entries))


def _per_sample(entry: Entry, batch: int) -> Entry:
    """The entry with each item of a batch counted."""
    if entry.timing is None or batch == 1:
        return entry
    timing = entry.timing
    counted = type(timing)(timing.name, timing.samples_ns, timing.slices_ns,
                           timing.items_per_run * batch)
    return Entry(**{**vars(entry), "timing": counted})


def make_task(model: str, options: SeasonOptions) -> Task:
    """The model's file, made if it belongs to the zoo, and inputs for it."""
    if model.endswith(".onnx"):
        path = Path(model)
    else:
        name = f"{model}-batch{options.batch}" if options.batch > 1 else model
        path = options.folder / f"{name}.onnx"
        if not path.exists():
            made = make_model(model, ZooOptions(batch=options.batch))
            unfinished = path.with_suffix(f".{time.time_ns()}.tmp")
            unfinished.write_bytes(made.SerializeToString(deterministic=True))
            unfinished.replace(path)
    loaded = onnx.load(str(path))
    outputs = tuple(output.name for output in loaded.graph.output)
    return Task(path, sample_inputs(loaded), outputs, options.threads, options.folder,
                options.streams)


def work_of(task: Task, entries: Sequence[Entry]) -> tuple[int, int]:
    """Operations and bytes of one run by our plan; zeros if we did not run."""
    path = task.file(f"-{task.threads}-threads.plan")
    if not path.exists() or not any(each.name == OURS and each.timing for each in entries):
        return 0, 0
    steps = [step for step in load(path).plan.steps if isinstance(step, KernelStep)]
    return sum(step.flops for step in steps), sum(step.bytes for step in steps)
