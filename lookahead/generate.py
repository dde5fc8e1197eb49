"""Batched greedy decoding with a key/value cache.

Prompts are sorted by length and decoded many at a time. The first pass runs over the prompts padded
on the right; after it, each row writes its keys and values at its own next position, over what the
padding left there, and sees nothing later. So no row is shifted, rotary positions are those of
training, and what a row generates does not depend on its neighbours. Rows that are done leave the
batch. Left out: sampling, which none of the paper's figures uses.

Shapes: B rows still running, T tokens of the longest prompt, V vocabulary.
"""

import torch

from lookahead.batches import pad
from lookahead.files import InputError, Progress
from lookahead.model import Cache


@torch.no_grad()
def generate(model, prompts, eos_id, max_new_tokens, batch_size=64, name="generate"):
    """Return for each prompt, a list of ids, the ids that greedy decoding adds, without EOS.

    A prompt may end in the first tokens of an answer: they are continued, not repeated.
    """
    context = model.config.max_position_embeddings
    if (longest := max(map(len, prompts), default=0)) > context:
        raise InputError(f"{name}: a prompt of {longest} tokens exceeds the context of {context}.")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [[] for _ in prompts]
    device, progress = model.lm_head.weight.device, Progress(name, len(prompts))
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        tokens, _ = pad([(prompts[i], 0) for i in rows], device)  # (B, T)
        lengths = torch.tensor([len(prompts[i]) for i in rows], device=device)
        slots = min(tokens.size(1) + max_new_tokens, context)
        cache = Cache(model.config, len(rows), slots, device, model.lm_head.weight.dtype)
        states = model.hidden(tokens, cache=cache)
        states = states[torch.arange(len(rows), device=device), lengths - 1]  # each prompt's last
        for last in reversed(range(max_new_tokens)):  # 0 at the last step
            chosen = model.lm_head(states).argmax(-1)  # (B,)
            running = (chosen != eos_id) & (lengths < slots)
            for row, token, runs in zip(rows, chosen.tolist(), running.tolist()):
                if runs:
                    answers[row].append(token)
            if last == 0 or not running.any():
                break
            if not running.all():
                rows = [row for row, runs in zip(rows, running.tolist()) if runs]
                chosen, lengths = chosen[running], lengths[running]
                cache.keep(running)
            states = model.hidden(chosen[:, None], lengths[:, None], cache)[:, 0]
            lengths = lengths + 1
        progress.show(min(first + batch_size, len(order)))
    return answers
