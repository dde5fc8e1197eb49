"""LookAhead Tuning in pure PyTorch: https://arxiv.org/abs/2503.19041.

Terms: the *aligned model* is the chat model before fine-tuning (the paper's seed model); *vanilla*
is fine-tuning without a preview; a *preview* shows the beginning of the answer in the training
prompt, after a *connector*; *RSR* and *JSR* are the shares of harmful requests answered safely,
plainly and with prefilled tokens; *utility* is the task's own score.

The idea, in this order; each chapter needs only earlier ones, but for the cache of decoding:

    preview.py     1. the method: the beginning of the answer, shown in the training prompt
    chat.py        2. text to token ids, and where the answer begins
    batches.py     3. examples to padded micro-batches
    model.py       4. the transformer
    losses.py      5. cross-entropy on the answer tokens; log-probabilities of given answers
    training.py    6. the loop
    generate.py    7. batched greedy decoding
    kl.py          8. how far the first answer tokens moved
    safety.py      9. RSR and JSR
    methods.py    10. what is compared: a preview, a loss, a source of data, a line each

    train.py       options, rows, aligned model; for each run: examples, training, directory
    evaluate.py    each run against the aligned model it started from

Around it, to be opened when needed:

    talk.py        the same request to every model of a folder
    examples.py    from the rows of a file to what a method trains on
    tasks.py       what is asked, and how an answer is scored
    templates.py   the chat formats of models
    runs.py        the settings of a run, and which runs share a folder
    cli.py         one-sentence errors, options of the machine, progress
    files/         rows of data, tokenizers, safetensors, model directories
    toy/           the toy world: its texts, its judge, and the small chat model made from them
    baselines/     constrained SFT, SDFT
    one_gpu/       AdamW over bf16 weights, LoRA
    report/        scores, intervals, tables, pictures
"""
