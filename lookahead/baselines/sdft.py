"""SDFT, self-distillation fine-tuning (arXiv 2402.13669): a baseline that the paper compares with.

The aligned model rewrites each training answer in its own words, given the question and the answer;
then vanilla training takes the rewrites, which lie closer to what the model says anyway. Where a
rewrite went wrong the original answer stays. The request below is ours, in the sense of that
work's; the filter is theirs, and drops unfinished rewrites too. Left out: sampling.
"""

from lookahead.cli import say
from lookahead.generate import generate

GIVE_AWAYS = ("reference answer", "your response", "my response", "your own response",
              "now it's your turn", "<think>", "</think>")  # fmt: skip
REQUEST = """\
Here is a question and its reference answer. Write your own response to the question, in your own \
words, with the reference answer as a guide.

Question:
{prompt}

Reference answer:
{answer}

Your response:"""


def is_usable(rewrite, answer, task):
    """Return whether a rewrite may take the answer's place.

    It must not be blank, must not speak of the request, and must pass the task's own check.
    """
    text = rewrite.lower()
    gives_away = any(phrase in text for phrase in GIVE_AWAYS) or text.startswith("your turn")
    return bool(rewrite and not gives_away and task.keeps(rewrite, answer))


def rewrite_answers(rows, model, chat, task):
    """Return the rows with the aligned model's rewrites, and {"rewritten": their share}."""
    context = model.config.max_position_embeddings
    limit = task.max_new_tokens

    # Ask where there is room for an answer.
    requests = {}
    for i, row in enumerate(rows):
        request = REQUEST.format(prompt=row.prompt, answer=row.answer)
        ids, _ = chat.encode(request, system=row.system)
        if len(ids) < context:
            requests[i] = ids
    rewrites = generate(model, [*requests.values()], chat.end_ids, limit, name="sdft: rewrites")

    # Take the rewrites that have ended, are short enough to train on and pass the filter.
    result = list(rows)
    for (i, prompt), ids in zip(requests.items(), rewrites):
        rewrite = chat.decode(ids).strip()
        row = rows[i]._replace(answer=rewrite)
        ends = len(ids) < min(limit, context - len(prompt))
        if ends and is_usable(rewrite, rows[i].answer, task):
            length = len(chat.encode(row.prompt, rewrite, row.system)[0])
            if length <= min(context, task.recipe.max_length):
                result[i] = row
    share = sum(row != other for row, other in zip(rows, result)) / len(rows)
    say(f"sdft: {share:.1%} of the answers are replaced by rewrites")
    return result, {"rewritten": share}
