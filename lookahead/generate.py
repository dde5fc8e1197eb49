"""Batched greedy decoding with a key/value cache.

Prompts are sorted by length and decoded many at a time. The first pass runs over the prompts padded
on the right; after it, each row writes its keys and values at its own next position, over what the
padding left there, and sees nothing later. So no row is shifted, rotary positions are those of
training, and what a row generates does not depend on its neighbours. The cache is allocated once;
a row that is done leaves the batch at once. Left out: sampling, which none of the paper's figures
uses.

Shapes: B rows still running, T tokens of the longest prompt, or 1, K key/value heads, E width of a
head, S slots of the cache in use, V vocabulary.
"""

import torch

from lookahead.batches import pad
from lookahead.commands import InputError, Progress


class Cache:
    """Keys and values of every layer, written at each row's own positions, for generation.

    Memory is taken once, for the most rows and slots; a batch uses the first B rows of it.
    """

    def __init__(self, config, rows, slots, device, dtype):
        shape = (rows, config.num_key_value_heads, slots, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in layers]
        self.values = [torch.zeros_like(keys) for keys in self.keys]

    def advance(self, positions, first):
        """Prepare for tokens at positions (B, T); `first` says that they begin their rows."""
        self.positions, self.filled = positions, int(positions.max()) + 1  # S, the slots to read
        self.rows = torch.arange(len(positions), device=positions.device)[:, None]
        slots, keys = torch.arange(self.filled, device=positions.device), self.keys[0]
        # A slot is visible when its position is not later than the query's: (B, 1, T, S).
        later = slots > positions[:, None, :, None]
        self.mask = None if first else later.to(keys.dtype).masked_fill(later, -torch.inf)

    def write(self, layer, keys, values):
        """Store keys and values (B, K, T, E); return those of all filled slots, (B, K, S, E)."""
        stored = []
        for store, new in ((self.keys[layer], keys), (self.values[layer], values)):
            store = store[: len(new)]
            store.transpose(1, 2)[self.rows, self.positions] = new.transpose(1, 2)  # (B, T, K, E)
            stored.append(store[:, :, : self.filled])
        return stored

    def keep(self, rows):
        """Keep only `rows`, an ascending list, moved to the front; return their new order.

        Only the last rows move, into the places of those that leave.
        """
        order = list(range(len(rows)))
        holes = sorted(set(order) - set(rows))
        movers = [row for row in rows if row >= len(rows)]
        for place, row in zip(holes, movers):
            order[place] = row
        to, source = (torch.tensor(x, device=self.rows.device) for x in (holes, movers))
        for store in (*self.keys, *self.values) if movers else ():
            store[to, :, : self.filled] = store[source, :, : self.filled]
        return order


@torch.no_grad()
def generate(model, prompts, eos_id, max_new_tokens, batch_size=64, name="generate"):
    """Return for each prompt, a list of ids, the ids that greedy decoding adds, without EOS.

    `max_new_tokens` is one number, or a list with one for each prompt. A prompt may end in the
    first tokens of an answer: they are continued, not repeated.
    """
    context, answers = model.config.max_position_embeddings, [[] for _ in prompts]
    limits = max_new_tokens if isinstance(max_new_tokens, list) else [max_new_tokens] * len(prompts)
    room = [min(limit, context - len(ids)) for limit, ids in zip(limits, prompts)]
    slots = max((len(ids) + more for ids, more in zip(prompts, room)), default=0)
    if min(room, default=1) < 1:
        longest = max(map(len, prompts))
        raise InputError(f"{name}: a prompt of {longest} tokens leaves no room in the model's "
                         f"context of {context}.")  # fmt: skip
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    weight, progress = model.lm_head.weight, Progress(name, len(prompts))
    cache = Cache(model.config, min(batch_size, len(order)), slots, weight.device, weight.dtype)
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        end = first + len(rows)
        tokens, _ = pad([(prompts[i], 0) for i in rows], weight.device)  # (B, T)
        lengths = torch.tensor([len(prompts[i]) for i in rows], device=weight.device)
        (states,) = model.hidden([tokens], cache=cache)
        states = states[torch.arange(len(rows), device=weight.device), lengths - 1]  # (B, D)
        while True:
            chosen, running = model.lm_head(states).argmax(-1), []  # (B,)
            for place, (row, token) in enumerate(zip(rows, chosen.tolist())):
                if token != eos_id:
                    answers[row].append(token)
                    if len(answers[row]) < room[row]:
                        running.append(place)
            progress.show(end - len(running))
            if not running:
                break
            if len(running) < len(rows):
                kept = cache.keep(running)
                rows, chosen, lengths = [rows[i] for i in kept], chosen[kept], lengths[kept]
            states = model.hidden([chosen[:, None]], lengths[:, None], cache)[0][:, 0]
            lengths = lengths + 1
    return answers
