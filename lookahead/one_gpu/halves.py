"""An fp32 number as two halves: a bf16 number, and the 16 bits that it lacks.

bf16 has the sign, the exponent and the first bits of the fraction of fp32, so cutting an fp32
number in the middle gives a bf16 number. A model can compute with the upper halves while an
optimizer keeps the lower ones: together they are exact.
"""

import torch


def upper_half(bits, nan):
    """Return the upper halves of int32 bits as bf16; where `nan` is true, NaN."""
    upper = (bits >> 16).to(torch.int16).view(torch.bfloat16)
    return upper.masked_fill_(nan, float("nan"))  # added bits may have carried it to inf or 0


def split(master):
    """Return fp32 numbers as bf16, rounded to nearest, and the int16 rest of their bits.

    The rest is the lower half, read as a signed number: negative where rounding went up. A NaN
    stays a NaN.

    >>> weight, rest = split(torch.tensor([1.0, 1.003]))
    >>> weight.tolist(), rest.tolist()
    ([1.0, 1.0], [0, 25166])
    """
    bits = master.view(torch.int32)
    # Half a bf16 step is added, then the lower half cut off: to nearest, halves away from zero.
    return upper_half(bits + 0x8000, master.isnan()), bits.to(torch.int16)


def join(weight, rest):
    """Return the fp32 numbers that `split` took apart, bit for bit.

    >>> join(*split(torch.tensor([1.0, 1.003]))).tolist() == torch.tensor([1.0, 1.003]).tolist()
    True
    """
    return (weight.float().view(torch.int32) + rest).view(torch.float32)


def round_at_random(master, generator=None):
    """Return fp32 numbers as bf16, up or down at random, so that the mean is the fp32 number.

    A number a tenth of the way up to the next bf16 number goes up with probability 0.1. Infinity
    and NaN stay. What is saved in bf16 from finer weights is rounded so: rounded to nearest, an
    update of less than half a step would be lost in all weights alike. A seeded `generator`, on the
    device of the numbers, gives the same file each time.
    """
    bits = master.view(torch.int32)
    noise = torch.empty_like(bits).random_(0, 0x10000, generator=generator)
    return upper_half(bits + noise, master.isnan())
