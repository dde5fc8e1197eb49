"""Chapter 7. Batched greedy decoding with a key/value cache.

Prompts are sorted by length and decoded many at a time. The first pass runs over the prompts padded
on the right; after it, each row writes its keys and values at its own next position, over what the
padding left there, and sees nothing at later ones. So no row is shifted, rotary positions are those
of training, and a row's answer does not depend on its neighbours, but for rounding. A row that is
done leaves the batch at once. As many rows are decoded at a time as memory has room for. Left out:
sampling, which none of the paper's numbers uses.

Shapes: B rows still running, T tokens of the longest prompt, or 1, K key/value heads, E width of a
head, S slots of the cache in use, D width, V vocabulary.
"""

import torch

from lookahead.batches import Example, pad
from lookahead.cli import InputError, Progress


class Cache:
    """Keys and values of every layer. Memory is taken once, for the most rows and slots."""

    def __init__(self, config, rows, slots, device, dtype):
        # A place for every layer, row, head and slot, whole eights of slots for the mask; rows that
        # leave make none free.
        slots += -slots % 8
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, slots, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    def advance(self, positions):
        """Prepare for tokens at positions (B, T): the whole prompts, then one token a row.

        The positions come on the CPU, which need not wait for a GPU to know the last of them.
        """
        # Where each row writes, and up to which slot all of them read.
        device = self.keys.device
        self.slots = int(positions.max()) + 1
        self.positions = positions.to(device)
        self.rows = torch.arange(len(positions), device=device)[:, None]

        # Slots after a row's latest token hold padding, or nothing, so they are masked. The mask is
        # added to the scores, in the dtype of the keys and for a multiple of 8 slots, as the GPU's
        # kernels want it: else every layer would convert it.
        self.mask = None  # over whole prompts attention is causal
        if positions.size(1) == 1:
            self.slots += -self.slots % 8
            later = torch.arange(self.slots, device=device) > self.positions[:, None, :, None]
            self.mask = torch.where(later, -torch.inf, 0.0).to(self.keys.dtype)  # (B, 1, 1, S)

    def write(self, layer, keys, values):
        """Store keys and values (B, K, T, E) at their positions; return all, (B, K, S, E) each."""
        # The first rows of the cache are those still running.
        all_keys = self.keys[layer, : len(keys)]  # (B, K, S, E), a view
        all_values = self.values[layer, : len(values)]
        all_keys.transpose(1, 2)[self.rows, self.positions] = keys.transpose(1, 2)  # (B, T, K, E)
        all_values.transpose(1, 2)[self.rows, self.positions] = values.transpose(1, 2)

        # Only slots in use are read.
        return all_keys[:, :, : self.slots], all_values[:, :, : self.slots]

    def move(self, source, place):
        """Copy the keys and values of a row to the place of another."""
        # The rows that are still running stay the first ones of the cache. Only slots in use need
        # to be copied.
        for store in (self.keys, self.values):
            store[:, place, :, : self.slots] = store[:, source, :, : self.slots]


def rows_at_once(model, longest, slots):
    """Return how many rows memory has room for: a power of two, at most 256.

    A power of two, so that a little more or less free memory changes no batch, and no rounding.
    """
    # A row takes its keys and values, and in the first pass the states of an MLP over its prompt.
    config = model.config
    weight = model.lm_head.weight
    a_slot = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    a_prompt_token = 3 * (config.hidden_size + config.intermediate_size)
    a_row = weight.itemsize * (slots * a_slot + longest * a_prompt_token)

    # All rows may take 4 GiB, or of a GPU 3/4 of the free memory, which PyTorch gives back first.
    memory = 2**32
    if weight.is_cuda:
        torch.cuda.empty_cache()
        memory = torch.cuda.mem_get_info(weight.device)[0] * 3 // 4
    rows = min(memory // a_row, 256)
    return 2 ** max(rows.bit_length() - 1, 0)


def generate(model, prompts, end_ids, max_new_tokens, batch_size=None, name="generate"):
    """Return for each prompt, a list of ids, the ids that greedy decoding adds up to an end.

    Any of `end_ids` ends an answer and is no part of it. `max_new_tokens` is one number, or a list
    with one for each prompt. A prompt may end in the first tokens of an answer: they are continued,
    not repeated. `batch_size` rows are decoded at a time; None: as many as memory has room for.
    InputError where a prompt fills the model's context.
    """
    # How many tokens each prompt may get: its limit, or what the context leaves.
    limits = max_new_tokens if isinstance(max_new_tokens, list) else [max_new_tokens] * len(prompts)
    context = model.config.max_position_embeddings
    room = [min(limit, context - len(ids)) for limit, ids in zip(limits, prompts)]
    longest = max(map(len, prompts), default=0)
    if min(room, default=1) < 1:
        raise InputError(f"{name}: a prompt of {longest} tokens leaves no room in the model's "
                         f"context of {context}.")  # fmt: skip

    # Memory for the longest prompt and answer, and as many rows as are decoded at a time.
    weight = model.lm_head.weight
    slots = max((len(ids) + more for ids, more in zip(prompts, room)), default=1)
    batch_size = batch_size or rows_at_once(model, longest, slots)
    cache = Cache(model.config, min(batch_size, len(prompts)), slots, weight.device, weight.dtype)

    # Prompts of equal length together waste the least on padding. The longest come first: if memory
    # does not suffice, that shows at once.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)

    # Every answer has its place by the order of the prompts, and grows there.
    answers = [[] for _ in prompts]
    progress = Progress(name, len(prompts))
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        decode_batch(model, prompts, answers, list(rows), room, end_ids, cache)
        progress.show(first + len(rows))
    return answers


@torch.no_grad()
def decode_batch(model, prompts, answers, rows, room, end_ids, cache):
    """Fill the answers of some rows, each up to an end token or its room."""
    # The first pass reads the whole prompts, each from position 0 on. The padding after a prompt
    # comes later than its tokens, so with causal attention none of them sees it.
    tokens, _, _ = pad([Example(prompts[i], 0) for i in rows])  # (B, T)
    positions = torch.arange(tokens.size(1)).expand_as(tokens)
    last = [len(prompts[i]) - 1 for i in rows]
    while rows:
        # The state of each row's last token scores the next one; the likeliest is taken. The head
        # is computed for these states alone, not for the whole prompts.
        cache.advance(positions)
        states = model.hidden(tokens.to(cache.keys.device), cache)[cache.rows[:, 0], last]  # (B, D)
        chosen = model.lm_head(states).argmax(-1).tolist()

        # A row that is done leaves, and the last one takes its place. The rows are visited from the
        # last to the first, so the row that moves has been visited.
        for place in reversed(range(len(rows))):
            row = rows[place]
            token = chosen[place]
            if token not in end_ids:
                answers[row].append(token)
            if token in end_ids or len(answers[row]) == room[row]:
                cache.move(len(rows) - 1, place)
                rows[place] = rows[-1]
                rows.pop()

        # From now on a step reads each row's latest token at its own position: what stands before
        # it is in the cache.
        tokens = torch.tensor([answers[i][-1:] for i in rows])  # (B, 1)
        positions = torch.tensor([[len(prompts[i]) + len(answers[i]) - 1] for i in rows])  # (B, 1)
        last = -1  # there is one token a row
