"""When a budget is used up. app/admission/lua/admit.lua has the same rule, and a property test holds it to
app/admission/bucket.py.
"""


def is_used_up(used_micros: int, limit_micros: int) -> bool:
    """Whether no further call fits. `used_micros` is what was spent, with the estimates of calls whose cost
    is not known yet; a limit of 0 is none. So a budget is passed by one call's estimate at most.
    """
    return 0 < limit_micros <= used_micros
