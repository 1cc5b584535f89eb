from .compute import embed, embed_block, embed_blocks, embed_observations, read_block
from .dask_backend import default_workers, local_workers, scheduler_workers
from .job import DATES_AT_ONCE, Job
from .memory import parse_size, plan_memory
from .quantization_loss import measure_loss
from .runner import embed_to_zarr, run_in_process

__all__ = [
    "DATES_AT_ONCE",
    "Job",
    "default_workers",
    "embed",
    "embed_block",
    "embed_blocks",
    "embed_observations",
    "embed_to_zarr",
    "local_workers",
    "measure_loss",
    "parse_size",
    "plan_memory",
    "read_block",
    "run_in_process",
    "scheduler_workers",
]
