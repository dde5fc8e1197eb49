"""What lets a large model train on one GPU: AdamW over bf16 weights, and LoRA.

`split_adamw.py` trains all parameters in 10 bytes each, where float32 training takes 16 and more,
with the bits of `halves.py`; `lora.py` trains a small update of a frozen model. Nothing else needs
this folder: without it `train.py` trains float32 weights.
"""

from lookahead.one_gpu.lora import add_lora, merge_lora
from lookahead.one_gpu.split_adamw import SplitAdamW, fill_masters, take_step, with_masters
