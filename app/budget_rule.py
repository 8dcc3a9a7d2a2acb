"""When a budget is used up. app/admission/lua/admit.lua has the same rule, and a property test holds it to
app/admission/bucket.py.
"""


def is_used_up(used_micros: int, limit_micros: int) -> bool:
    """Whether a budget refuses calls: what was spent has reached it. Calls under way are not spent. While
    what they hold would reach it, others wait for their end, so a budget is passed by one call's estimate
    at most. A call that ended, and whose cost nobody knows, counts what was reserved. A limit of 0 is none.
    """
    return 0 < limit_micros <= used_micros
