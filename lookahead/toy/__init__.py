"""The toy world: its texts (world.py), its task and its small chat model (aligned.py)."""

from lookahead.toy.aligned import (  # noqa: F401
    STAGES,
    TASK,
    TEMPLATE,
    describe_run,
    random_model,
    read_stages,
    train_tokenizer,
    write_files,
)  # fmt: skip
from lookahead.toy.world import write_world  # noqa: F401
