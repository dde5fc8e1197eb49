"""LookAhead Tuning in pure PyTorch: https://arxiv.org/abs/2503.19041.

Terms: the *aligned model* is the chat model before fine-tuning (the paper's seed model); *vanilla*
is fine-tuning without a preview; a *preview* shows the beginning of the answer in the training
prompt, after a *connector*; *RSR* and *JSR* are the shares of harmful requests answered safely,
plainly and with prefilled tokens; *utility* is the task's own score.

README.md has the map: ten chapters in the order in which they are read, each of which needs only
earlier ones, but for the cache of decoding, and the rooms around them.
"""
