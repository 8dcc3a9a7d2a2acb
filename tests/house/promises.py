"""The README's failure table, row by row, with the tests that fail when the row is broken."""

FAILURES: dict[str, tuple[str, ...]] = {
    "gateway answers 429": (
        "test_item_25_a_429_is_tried_at_0_1_3_7_seconds_then_skipped_with_its_reason",
        "test_429_pauses_everybody_is_told_when_it_lasts_and_the_scheduler_slows_down",
    ),
    "credits, the key's limit or the day's quota are used up (402, 403, 429), or the key is refused (401)": (
        "test_402_stops_scheduler_and_calls_is_told_everywhere_and_ends_by_itself",
        "test_a_stop_has_an_incident_an_alert_a_line_everywhere_a_probe_and_an_end",
    ),
    "the gateway flags a prompt, or refuses one request": ("test_one_bad_request_stops_nobody_else",),
    "the gateway asks for a long wait (`Retry-After: 3600`)": (
        "test_resume_and_a_change_of_limits_end_a_long_pause_and_wake_what_snoozes",
        "test_reconciling_the_limits_ends_no_pause_of_the_gateway",
    ),
    "an agent is over its daily quota, the fleet or a community over its budget": (
        "test_agent_over_its_quota_is_refused_and_others_are_not",
        "test_fleet_budget_of_the_day_is_kept_by_twenty_at_once",
        "test_community_over_its_budget_is_refused_and_the_other_goes_on",
        "test_used_up_budget_goes_on_with_less_where_the_operator_says_so",
    ),
    "empty, cut off, filtered, garbled or endless answer": (
        "test_every_kind_of_bad_answer_is_a_recorded_failure",
        "test_a_cut_off_answer_is_asked_for_once_more_with_more_room",
    ),
    "an answer without usage, or with numbers that cannot be true": (
        "test_an_absurd_bill_is_named_and_not_believed",
        "test_usage_that_cannot_be_true_is_named_with_its_numbers",
    ),
    "PostgreSQL refuses a row (a trigger of yours that raises)": (
        "test_answers_that_cannot_be_stored_stop_the_fleet_and_are_told",
    ),
    "more agents than the cap can serve": (
        "test_least_recently_served_come_first",
        "test_overload_slows_everybody_down_fairly",
    ),
    "a worker dies, hangs or is stopped": (
        "test_killed_workers_runs_are_resumed_within_45_seconds",
        "test_nothing_is_lost_and_nothing_done_twice_over_thirty_faults",
    ),
    "a run whose worker goes silent three times": (
        "test_a_run_that_brings_down_three_workers_is_told",
        "test_a_worker_killed_again_and_again_does_not_end_up",
    ),
    "a message is lost or delivered twice": (
        "test_a_redis_that_loses_its_data_loses_no_run_and_no_canvas",
        "test_nothing_is_lost_and_nothing_done_twice_over_thirty_faults",
    ),
    "beat hangs": ("test_a_beat_that_hangs_is_replaced_and_slices_are_opened_again",),
    "twitterapi.io fails or has no credits left": (
        "test_x_is_asked_only_when_twitterapi_fails_and_no_mention_is_stored_twice",
    ),
    "a model is gone": (
        "test_a_model_is_dropped_for_all_only_when_a_second_run_sees_it",
        "test_a_dropped_model_is_told_with_what_is_asked_in_its_place",
    ),
    "Redis is away": (
        "test_no_call_is_made_while_redis_does_not_answer",
        "test_many_calls_at_once_ask_a_dead_redis_a_few_times_and_wait",
    ),
    "Redis lost everything": ("test_flushall_loses_no_count",),
    "a setting is misspelt, a port taken, a server away, a migration pending": (
        "test_unknown_setting",
        "test_port_taken",
        "test_postgres_unreachable",
        "test_redis_unreachable",
        "test_migrations_pending",
    ),
}


def page() -> str:
    """The table of rows and tests."""
    rows = [f"| {what} | {'<br>'.join(f'`{name}`' for name in tests)} |" for what, tests in FAILURES.items()]
    head = [
        "# When something goes wrong, and what proves it",
        "",
        "Each row of the README's table, and the tests that fail when it is broken. `make mutants` breaks",
        "the promises one by one and sees that a test notices. Written by `make docs`.",
        "",
        "| what | tests |",
        "| --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"
