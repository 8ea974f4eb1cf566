"""How the examples of an experiment get to its devices: held there, or streamed."""

from jax.sharding import NamedSharding

from cnn_jax.data.resident import EvalBatches, Feeder
from cnn_jax.data.spec import Split
from cnn_jax.data.streaming import StreamedEvalBatches, StreamFeeder
from cnn_jax.placement import replicated, sharded
from cnn_jax.training.setup import Experiment


def make_feeder(experiment: Experiment, start: int) -> Feeder | StreamFeeder:
    """Returns what gives each step from `start` on its feed; to be closed."""
    config, train = experiment.config, experiment.dataset.train
    options = {
        "seed": config.seed,
        "batch_size": config.data.batch_size,
        "sharding": feed_sharding(experiment),
    }
    if experiment.dataset.feed == "resident":
        return Feeder(train, **options)
    options |= {"crop": config.data.host_crop, "workers": config.data.workers}
    return StreamFeeder(train, start=start, stop=experiment.steps, **options)


def eval_splits(
    experiment: Experiment,
) -> tuple[EvalBatches | StreamedEvalBatches, EvalBatches | StreamedEvalBatches | None]:
    """Returns the batches of the test split, and those of the validation split if there is one."""
    dataset = experiment.dataset
    validation = dataset.validation and eval_batches(experiment, dataset.validation)
    return eval_batches(experiment, dataset.test), validation


def eval_batches(experiment: Experiment, split: Split) -> EvalBatches | StreamedEvalBatches:
    """Returns the batches of a split, of one size for all splits of a run."""
    dataset, devices = experiment.dataset, experiment.mesh.size
    longest = max(len(each) for each in (dataset.validation, dataset.test) if each is not None)
    size = min(experiment.config.data.eval_batch_size, longest)
    size += -size % devices
    kind = EvalBatches if dataset.feed == "resident" else StreamedEvalBatches
    return kind(split, batch_size=size, sharding=feed_sharding(experiment))


def feed_sharding(experiment: Experiment) -> NamedSharding:
    """Returns where examples lie: spread over the devices, but that pmap takes whole arrays."""
    place = replicated if experiment.config.parallel == "pmap" else sharded
    return place(experiment.mesh)


def feed_line(experiment: Experiment) -> str:
    """Returns how the examples get to the devices, in a line."""
    dataset = experiment.dataset
    splits = [each for each in (dataset.train, dataset.validation, dataset.test) if each]
    size = sum(each.images.size for each in splits) / 2**20
    where = {"resident": "held on the device", "streaming": "streamed to the device"}
    crops = ", random crops cut from the files" if experiment.config.data.crop_files else ""
    return f"data: {size:,.1f} MiB of images, {where[dataset.feed]}{crops}"
