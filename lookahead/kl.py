"""Chapter 8. KL divergence of the first answer tokens, between the tuned and the aligned model.

The paper's measurement of harm. Prompt and answer are fed as they are (teacher-forced), both models
see identical ids, and at answer position k (k = 1 predicts the first answer token)

    KL_k = mean over pairs of  sum_v p_a(v) * (log p_a(v) - log p_b(v))     in nats.

Both directions are computed. KL(tuned || aligned), apparently the paper's, has a = tuned and
b = aligned; the other way, KL(aligned || tuned), is that of the work it builds on (arXiv
2406.05946). The log-probabilities come from `answer_log_probs` (chapter 5), so one model at a time
is in memory; the mean with its interval is taken in `report/intervals.py`.

Shapes: K positions, V vocabulary.
"""

POSITIONS = 8  # as in the paper's figure


def kl_both_ways(tuned, aligned):
    """Return KL(tuned || aligned) and KL(aligned || tuned) of one pair, (K,) float64 each, in nats.

    `tuned` and `aligned` are the models' log-probabilities (K, V). Rounding leaves float32
    probabilities a little off a sum of 1, by which a KL could fall below 0; so they are normalised
    again in float64.

    >>> half, quarter = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> there, back = kl_both_ways(half, quarter)
    >>> round(there.item(), 4), round(back.item(), 4)  # 0.5 ln 2 + 0.5 ln (2/3), ...
    (0.1438, 0.1308)
    """
    tuned = tuned.double().log_softmax(-1)
    aligned = aligned.double().log_softmax(-1)

    # How much likelier tuning made each token; each direction weighs it by its own model.
    gain = tuned - aligned
    return (tuned.exp() * gain).sum(-1), -(aligned.exp() * gain).sum(-1)
