"""SDFT, self-distillation fine-tuning (arXiv 2402.13669): a baseline that the paper compares with.

The aligned model rewrites each training answer in its own words, given the question and the answer;
then vanilla training takes the rewrites, which lie closer to what the model says anyway. Where a
rewrite went wrong the original answer stays. The request below is ours, in the sense of that
work's; the filter is theirs, and drops unfinished rewrites too. Left out: sampling.
"""

from lookahead.cli import say
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


def rewrite_answers(pairs, model, chat, task, fits, token_budget):
    """Return the pairs with the aligned model's rewrites, and {"rewritten": the share kept}.

    As many requests are answered at a time as have room in a cache of twice `token_budget` tokens.
    `fits` says whether a pair is short enough to be trained on.
    """
    context = model.config.max_position_embeddings
    limit = task.max_new_tokens

    # Ask where there is room for an answer.
    requests = {}
    for i, pair in enumerate(pairs):
        request = REQUEST.format(prompt=pair.prompt, answer=pair.answer)
        ids, _ = chat.encode(request, system=pair.system)
        if len(ids) < context:
            requests[i] = ids
    asked = list(requests.values())
    rows = max(1, 2 * token_budget // (max(map(len, asked), default=0) + limit))
    written = generate(model, asked, chat.end_id, limit, rows, "sdft: rewrite answers")

    # Keep the rewrites that are finished and pass the filter.
    result = list(pairs)
    kept = 0
    for (i, request), ids in zip(requests.items(), written):
        rewrite = chat.decode(ids).strip()
        finished = len(ids) < min(limit, context - len(request))
        changed = pairs[i]._replace(answer=rewrite)
        if finished and is_kept(rewrite, pairs[i].answer, task) and fits(changed):
            result[i] = changed
            kept += 1
    say(f"sdft: {kept / len(pairs):.1%} of the rewrites replace answers")
    return result, {"rewritten": kept / len(pairs)}
