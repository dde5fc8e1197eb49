"""LookAhead Tuning in pure PyTorch: https://arxiv.org/abs/2503.19041.

Reading order. Part I is the idea, to be read from top to bottom:

    files.py        what comes in and goes out, and how a mistake is told (skim it)
    1. preview.py   the method: the beginning of the answer, shown in the training prompt
    2. chat.py      text -> token ids, and where the answer begins
    3. batches.py   examples -> padded batches
    4. model.py     Llama
    5. losses.py    cross-entropy on the answer tokens
    6. kl.py        how far the first answer tokens moved from the seed model's
    7. train.py     the training loop, one run after another
    8. evaluate.py  every run of a folder against its seed model

Part II makes it run for real: tasks.py, optimizer.py, generate.py, safety.py, checkpoint.py,
pictures.py, report.py, and toy.py, the texts of the toy world.
"""
