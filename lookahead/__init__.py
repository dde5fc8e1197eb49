"""LookAhead Tuning in pure PyTorch: https://arxiv.org/abs/2503.19041.

Terms: the *seed model* is the aligned chat model before fine-tuning; *vanilla* is fine-tuning
without a preview; a *preview* shows the beginning of the answer in the training prompt, behind a
*connector*; *RSR* and *JSR* are the shares of harmful requests answered safely, plainly and with a
forced opening; *utility* is the task's own score.

Reading order. Part I is the idea:

    1. preview.py   the method: the beginning of the answer, shown in the training prompt
    2. chat.py      text -> token ids, and where the answer begins
    3. batches.py   examples -> padded batches
    4. model.py     Llama
    5. losses.py    cross-entropy on the answer tokens; constrained SFT, a baseline
    6. kl.py        how far the first answer tokens moved from the seed model's
    7. train.py     the training loop, one run after another
    8. evaluate.py  every run of a folder against its seed model

Part II makes it run for real: commands.py and files.py (options, mistakes, progress; what is read
and written), tasks.py and safety.py (what is asked, and how answers are scored), optimizer.py,
lora.py, generate.py, distill.py (SDFT, a baseline), tensors.py and checkpoint.py (weights and model
directories), runs.py (which runs a command makes, and how an interrupted one goes on),
intervals.py, tables.py and report.py, toy.py (the texts of the toy world) and seed.py (the models
that are made here).
"""
