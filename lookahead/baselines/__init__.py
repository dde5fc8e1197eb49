"""What the paper compares with: constrained SFT (another loss), SDFT (other answers)."""

from lookahead.baselines.constrained_sft import BETAS, constrained_sft
from lookahead.baselines.sdft import rewrite_answers
