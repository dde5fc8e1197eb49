"""SDFT, self-distillation fine-tuning (arXiv 2402.13669): a baseline that the paper compares with.

The seed model rewrites each training answer in its own words, given the question and the answer;
then vanilla training takes the rewrites, which lie closer to what the model says anyway. Where a
rewrite went wrong the original answer stays. The request below is ours, in the sense of that
work's; the filter is theirs, and drops unfinished rewrites too. Left out: sampling.
"""

from lookahead.chat import decode, encode_chat
from lookahead.generate import generate

GIVE_AWAYS = ("reference answer", "your response", "my response", "your own response",
              "now it's your turn")  # fmt: skip
REQUEST = """\
Here is a question and its reference answer. Write your own response to the question, in your own \
words, with the reference answer as a guide.

Question:
{prompt}

Reference answer:
{answer}

Your response:"""


def is_kept(rewrite, answer, task):
    """Return whether a rewrite may take the answer's place.

    It must not be blank, must not speak of the request, and must pass the task's own check.
    """
    text = rewrite.lower()
    spoken = any(phrase in text for phrase in GIVE_AWAYS) or text.startswith("your turn")
    return bool(rewrite and not spoken and task.keeps(rewrite, answer))


def rewrite_answers(model, tokenizer, template, system, pairs, task, token_budget):
    """Return the pairs with the seed model's rewrites, and the share of rewrites that were kept.

    As many requests are answered at a time as have room in a cache of twice `token_budget` tokens.
    """
    context, limit, requests = model.config.max_position_embeddings, task.max_new_tokens, {}
    for i, (prompt, answer) in enumerate(pairs):
        request = REQUEST.format(prompt=prompt, answer=answer)
        ids, _ = encode_chat(tokenizer, template, system, request)
        if len(ids) < context:  # else there is no room for a rewrite
            requests[i] = ids
    asked = list(requests.values())
    rows = max(1, 2 * token_budget // (max(map(len, asked), default=0) + limit))
    written = generate(model, asked, tokenizer.eos_id(), limit, rows, "sdft: rewrite answers")
    result, kept = list(pairs), 0
    for (i, request), ids in zip(requests.items(), written):
        finished = len(ids) < min(limit, context - len(request))
        (prompt, answer), rewrite = pairs[i], decode(tokenizer, ids).strip()
        if finished and is_kept(rewrite, answer, task):
            result[i] = (prompt, rewrite)
            kept += 1
    return result, kept / len(pairs)
